"""Chat templates: the well-known families, the features they use, and the same text as transformers gives."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import Any

import pytest

from pyggml.chat.template import ChatTemplate
from pyggml.errors import TemplateError

USER = {"role": "user", "content": "How are you?"}
CHAT = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi <you> & me"},
    {"role": "assistant", "content": "Hello."},
    USER,
]

CHATML = """{% for message in messages %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' -}}
{% endfor %}
{% if add_generation_prompt %}
{{- '<|im_start|>assistant\n' -}}
{% endif %}
"""

LLAMA3 = """{% set loop_messages = messages %}
{% for message in loop_messages %}
{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' %}
{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}
{{- content }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}"""  # noqa: E501

MISTRAL = """{{ bos_token }}
{%- set ns = namespace(system='', turn=0) -%}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}
    {%- set ns.system = message.content + '\n\n' -%}
  {%- elif (message.role == 'user') != (ns.turn % 2 == 0) -%}
    {{- raise_exception('roles must alternate user/assistant/user/assistant') -}}
  {%- else -%}
    {%- set ns.turn = ns.turn + 1 -%}
    {%- if message.role == 'user' -%}
      {{- ' [INST] ' + (ns.system if ns.turn == 1 else '') + message.content + ' [/INST]' -}}
    {%- else -%}
      {{- ' ' + message.content + eos_token -}}
    {%- endif -%}
  {%- endif -%}
{%- endfor -%}"""

TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}
    {{- '# Tools\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n' }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '\n</tools><|im_end|>\n' }}
{%- endif %}
{%- set ns = namespace(last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if message.role == 'user' and message.content is string %}{% set ns.last = index %}{% break %}{% endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == 'assistant' %}
        {%- set reasoning = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if reasoning and loop.index0 > ns.last %}{{- '<think>\n' ~ reasoning ~ '\n</think>\n\n' }}{% endif %}
        {{- content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\n<tool_call>\n{"name": "' ~ call.function.name ~ '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' ~ content ~ '\n</tool_response><|im_end|>\n' }}
    {%- elif not (loop.first and message.role == 'system' and tools) %}
        {{- '<|im_start|>' + message.role + '\n' + content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}{%- endif %}
{%- endif %}"""

SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": 'The <b>weather</b> & "more" \u00e9',
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
CALLS: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather in Rome?"},
    {
        "role": "assistant",
        "content": "<think>\nlook\n</think>\n\nI look.",
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome", "n": None}}}],
    },
    {"role": "tool", "content": "sunny"},
]


def render(source: str, messages: list[dict[str, Any]] | None = None, **kwargs: Any) -> str:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(messages or [], **kwargs)


# ---- families ------------------------------------------------------------------------------------------------------


def test_chatml() -> None:
    assert render(CHATML, CHAT) == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi <you> & me<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nHow are you?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_llama3() -> None:
    assert render(LLAMA3, [{"role": "user", "content": "  Hi \n"}]) == (
        "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_mistral() -> None:
    assert (
        render(MISTRAL, CHAT) == "<s> [INST] Be kind.\n\nHi <you> & me [/INST] Hello.</s> [INST] How are you? [/INST]"
    )


def test_mistral_refuses_two_user_turns() -> None:
    with pytest.raises(TemplateError, match="roles must alternate") as caught:
        render(MISTRAL, [USER, USER])
    assert ", line " in str(caught.value)  # whose number Jinja takes a little too high after "-%}"


def test_tools_and_thinking() -> None:
    assert render(TOOLS, CALLS, tools=SCHEMAS) == (
        "<|im_start|>system\nBe brief.\n\n# Tools\n<tools>\n"
        '{"type": "function", "function": {"name": "weather", "description": "The <b>weather</b> & \\"more\\" \u00e9", '
        '"parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}'
        "\n</tools><|im_end|>\n<|im_start|>user\nWeather in Rome?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nlook\n</think>\n\nI look.\n<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "Rome", "n": null}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_thinking_switched_off() -> None:
    assert render(TOOLS, [USER], enable_thinking=False).endswith("assistant\n<think>\n\n</think>\n\n")
    assert render(TOOLS, [USER], enable_thinking=True).endswith("<|im_start|>assistant\n")


def test_without_generation_prompt() -> None:
    assert render(CHATML, [USER], add_generation_prompt=False).endswith("How are you?<|im_end|>\n")


# ---- features ------------------------------------------------------------------------------------------------------

FEATURES = {
    "{{ messages|length }}": "4",
    "{{ 'a' 'b' ~ 1 ~ none ~ [1, 'x'] }}": "ab1None[1, 'x']",
    "{{ undefined_name }}|{{ messages[9] }}": "|",
    "{{ {'b': 1, 'a': [true, none]}|tojson }}": '{"b": 1, "a": [true, null]}',
    "{{ {'b': 1, 'a': 2}|tojson(sort_keys=true, indent=1) }}": '{\n "a": 2,\n "b": 1\n}',
    "{{ {'b': 1}|tojson(separators=(',', ':')) }}": '{"b":1}',
    "{{ '<\u00e9>'|tojson }}{{ '<\u00e9>'|tojson(ensure_ascii=true) }}": '"<\u00e9>""<\\u00e9>"',
    "{% generation %}{% set x = 1 %}text{% endgeneration %}{{ x is defined }}": "textFalse",
    "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% elif i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}": (
        "02"
    ),
    "{% for i in range(5) if i is odd %}{{ i }}{{ ',' if not loop.last }}{% endfor %}": "1,3",
    "{% for k, v in {'b': 1, 'a': 2}|dictsort %}{{ k }}{{ v }}{% endfor %}": "a2b1",
    "{% for k, v in {'b': 1, 'a': 2}.items() %}{{ k }}{{ v }}{% endfor %}": "b1a2",
    "{% for k, v in {'b': 1}|items %}{{ k }}{{ v }}{% endfor %}": "b1",
    "{{ messages|selectattr('role', 'equalto', 'user')|map(attribute='content')|list|length }}": "2",
    "{{ messages|rejectattr('role', 'in', ['user', 'system'])|list|count }}": "1",
    "{{ messages|map(attribute='role')|unique|join(', ') }}": "system, user, assistant",
    "{{ ['b', 'a']|sort|join }}{{ [3, 1]|max }}{{ [1, 2]|sum }}{{ 'abc'|first }}{{ 'abc'|last }}{{ 'abc'|reverse }}": (
        "ab33accba"
    ),
    "{{ messages|groupby('role')|map('first')|join('/') }}": "assistant/system/user",
    "{{ [1, 2, 3]|batch(2)|list }}{{ [1, 2, 3]|slice(2)|list }}": "[[1, 2], [3]][[1, 2], [3]]",
    "{{ 'a b'|title }}{{ 'x'|upper }}{{ 'X'|lower }}{{ ' x '|trim }}{{ 'ab'|capitalize }}{{ 'x'|center(3) }}|": (
        "A BXxxAb x |"
    ),
    "{{ 'a-b'|replace('-', '+') }}{{ 'aaa'|replace('a', 'b', 2) }}{{ 'aa'.replace('a', 'b', 1) }}": "a+bbbaba",
    "{{ 'a\nb'|indent(2) }}": "a\n  b",
    "{{ 1.55|round(1) }}{{ '12'|int }}{{ 'x'|int(7) }}{{ '1.5'|float }}{{ (-3)|abs }}{{ 5|string }}": "1.61271.535",
    "{{ '%s is %d' % ('x', 3) }}{{ '%(a)s' % {'a': 1} }}{{ '%s'|format('y') }}": "x is 31y",
    "{{ '{} {a:>3} {0!r}'.format('x', a=1) if false else '{0} {a:>3} {0!r}'.format('x', a=1) }}": "x   1 'x'",
    "{{ 'a,b'.split(',') }}{{ 'a b c'.rsplit(' ', 1)[0] }}{{ ','.join(['x', 'y']) }}": "['a', 'b']a bx,y",
    "{{ ' x'.lstrip() }}{{ 'x\n'.rstrip('\n') }}{{ 'abc'.startswith('a') }}{{ 'abc'.endswith(('c', 'd')) }}": (
        "xxTrueTrue"
    ),
    "{{ 'abc'[1:] }}{{ 'abc'[::-1] }}{{ [1, 2, 3][:-1] }}{{ messages[-1]['content'] }}": "bccba[1, 2]How are you?",
    "{{ 7 // 2 }}{{ 7 % 4 }}{{ 2 ** 10 }}{{ 3 * 'ab' }}{{ [0] * 2 }}{{ 7 / 2 }}{{ 3 - 5 }}": "331024ababab[0, 0]3.5-2",
    "{% macro f(a, b=2) %}{{ a }}{{ b }}{{ caller() if caller else '' }}{% endmacro %}{{ f(1) }}"
    "{% call f(3, b=4) %}!{% endcall %}": "1234!",
    "{% set x %}a{{ 1 }}{% endset %}{{ x|upper }}{% filter upper %}b{% endfilter %}": "A1B",
    "{% set ns = namespace(n=0, l=[]) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}"
    "{% set ns.l = ns.l + [m.role] %}{% endfor %}{{ ns.n }}{{ ns.l|length }}": "44",
    "{% for x in [[1, [2]], [3]] recursive %}{% if x is iterable %}({{ loop(x) }})"
    "{% else %}{{ x }}{% endif %}{% endfor %}": ("(1(2))(3)"),
    "{{ dict(a=1).a }}{{ {'a': 1}.get('b', 2) }}{{ 'a' in {'a': 1} }}{{ {'_x': 1}._x }}{{ {'_x': 1}['_x'] }}": (
        "12True11"
    ),
    "{{ messages is sequence }}{{ messages[0] is mapping }}{{ 'a' is string }}{{ 1 is number }}{{ none is none }}": (
        "True" * 5
    ),
    "{{ x|default('d') }}{{ ''|default('e', true) }}{{ documents is none }}": "deTrue",
    "{{ loop_var if false else 'no' }}{{ 'x' if messages and tools is none }}": "nox",
    "{{ '<'|e }}{{ '<'|safe }}{{ 'a b'|urlencode }}{{ 'a b'|wordcount }}{{ 'abcdef'|truncate(3, true, '', 0) }}": (
        "&lt;<a%20b2abc"
    ),
    "{% for i in [1, 2] %}{{ loop.cycle('a', 'b') }}{{ loop.changed(1) }}{{ loop.previtem }}"
    "{{ loop.revindex }}{% endfor %}": ("aTrue2bFalse11"),
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}{{ c.pos }}": "abNonea1",
    "{% set j = joiner('|') %}{% for i in [1, 2, 3] %}{{ j() }}{{ i }}{% endfor %}": "1|2|3",
    "{% set j = joiner() %}{{ j() }}a{{ j() }}b": "a, b",
    "{{ {'b': [1, 2], 'a': 'x'}|pprint }}{{ 'a\nb'|pprint }}": "{'a': 'x', 'b': [1, 2]}'a\\nb'",
    "{{ 123456|filesizeformat }} {{ '1000'|filesizeformat }} {{ 1|filesizeformat }} {{ 2048|filesizeformat(true) }}": (
        "123.5 kB 1.0 kB 1 Byte 2.0 KiB"
    ),
    "{{ 1e400 }}{{ -1e400 }}{{ 1e400 > 5 }}{{ [1e400] }}{{ {'a': 1e400}|tojson }}": 'inf-infTrue[inf]{"a": Infinity}',
    "{% autoescape true %}{{ '<' }}{{ '<'|safe }}{{ '<' ~ 'b' }}{{ ['<'] }}{% endautoescape %}{{ '<' }}": (
        "&lt;<&lt;b[&#39;&lt;&#39;]<"
    ),
    "{% autoescape true %}{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m('<') }}{% set y %}<{{ '&' }}{% endset %}{{ y }}"
    "{% set v = '<' ~ messages[0].role[0] %}{{ (v|e) ~ v }}{{ v ~ v }}{{ ['<', 'a']|join('<') }}{% endautoescape %}": (
        "<&lt;><&amp;" + 4 * "&lt;s" + "&lt;&lt;a"
    ),
    "{% autoescape false %}{{ '<' }}{% endautoescape %}": "<",
    "{{ {'a': 1, 'b': '<', 'c': none}|xmlattr }}{{ [1]|random }}": ' a="1" b="&lt;"1',
    "{% with a = 1 %}{{ a }}{% endwith %}{# comment #}{% raw %}{{ raw }}{% endraw %}": "1{{ raw }}",
}


@pytest.mark.parametrize("source", FEATURES)
def test_feature(source: str) -> None:
    assert render(source, CHAT) == FEATURES[source]


def test_blocks_are_trimmed_as_transformers_does() -> None:
    assert render("a\n  {% if true %}\nb\n  {% endif %}\nc\n") == "a\nb\nc"


def test_strftime_now() -> None:
    assert render("{{ strftime_now('%Y') }}") == datetime.now().strftime("%Y")


def test_messages_may_be_any_plain_containers() -> None:
    from collections import UserDict

    message: Any = UserDict(role="user", content=("a", 1.5, None, True))
    assert render("{{ messages[0].content|tojson }}", [message]) == '["a", 1.5, null, true]'


def test_keyword_arguments_override_tokens() -> None:
    assert render("{{ bos_token }}", bos_token="<b>") == "<b>"


def test_a_long_chat_is_no_attack() -> None:
    chat = [{"role": ("user", "assistant")[i % 2], "content": f"{i} " + "word " * 400} for i in range(1000)]
    out = render(MISTRAL, chat)
    assert out.count("[INST]") == 500
    assert len(out) > 2_000_000


def test_one_template_in_many_threads() -> None:
    template = ChatTemplate(CHATML)
    results: list[str] = []

    def work(i: int) -> None:
        text = [template.render([{"role": "user", "content": str(i)}]) for _ in range(20)]
        results.extend(t for t in text if f"user\n{i}<" in t)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160


# ---- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source, reason",
    [
        ("a\n{% if %}", "line 2"),
        ("\n\n{{ missing.attribute }}", "line 3: 'missing' is undefined"),
        ("{{ 1 + 'a' }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ 'a'|nofilter }}", "No filter named 'nofilter'"),
        ("{{ raise_exception('only with tools') }}", "line 1: only with tools"),
        ("{{ messages|tojson }}{{ missing|tojson }}", "not JSON serializable"),
        ("{% endfor %}", "endfor"),
        ("{{ cycler() }}", "at least one item"),
        ("{% set c = cycler('a') %}{{ c.__next__() }}", "refused"),
        ("{{ ('x' * 30000)|pprint }}", "at most 20,000"),
        ("{{ cycler('x' * 900000, 'x' * 900000) }}", "larger than"),
    ],
)
def test_errors_name_template_line_and_reason(source: str, reason: str) -> None:
    with pytest.raises(TemplateError) as caught:
        ChatTemplate(source, name="mine").render([USER])
    assert reason in str(caught.value)
    assert "'mine'" in str(caught.value)


def test_a_template_must_be_text() -> None:
    with pytest.raises(TemplateError, match="bytes"):
        ChatTemplate(b"x")  # type: ignore[arg-type]


# ---- transformers --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("source", [CHATML, LLAMA3, MISTRAL, TOOLS, *FEATURES])
def test_same_as_transformers(source: str) -> None:
    utils = pytest.importorskip("transformers.utils.chat_template_utils")
    for chat in (CHAT, CALLS, [USER]):
        for tools in (None, SCHEMAS):
            tokens = {"bos_token": "<s>", "eos_token": "</s>"}
            try:
                want = utils.render_jinja_template(
                    [chat], tools=tools, chat_template=source, add_generation_prompt=True, **tokens
                )[0][0]
            except Exception:
                with pytest.raises(TemplateError):
                    render(source, chat, tools=tools)
            else:
                assert render(source, chat, tools=tools) == want


def test_the_conformance_files_have_a_working_template(shared: Any) -> None:
    from pyggml import gguf

    with gguf.open(shared / "conformance" / "llama" / "model-f32.gguf") as file:
        source = file.metadata["tokenizer.chat_template"]
    assert render(source, [USER]) == "<|user|>\nHow are you?\n<|assistant|>\n"

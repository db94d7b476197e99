"""Chat templates that attack the machine: each is a TemplateError that names the problem, soon and in little memory.

A template comes with the file, from anywhere. Attacks run in a process of their own with limits on address space and on
processor time (2 s each), so a test fails by the limit and not by taking the machine down.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
from typing import Any

import pytest

from pyggml.chat.template import ChatTemplate
from pyggml.errors import PyggmlError, TemplateError

MESSAGES = [{"role": "user", "content": "hello world"}]
MEMORY = 500 << 20

# The child takes all attacks of one test one after another and reports (error type, message).
CHILD = """
import json, resource, sys
from pyggml.chat.template import ChatTemplate
resource.setrlimit(resource.RLIMIT_AS, (%d, %d))
out = []
for source in json.load(sys.stdin):
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 3, -1))  # whole seconds: at least 2 are left
    try:
        text = ChatTemplate(source, name="attack").render([{"role": "user", "content": "hello world"}])
        kind, message = "", text[:200]
    except Exception as e:
        kind, message = type(e).__name__, str(e)
    out.append([kind, message])
json.dump(out, sys.stdout)
"""


def attack(*sources: str, reason: str) -> None:
    """Every source must end in a TemplateError whose message holds the reason, within the limits.

    On a busy machine the deadline may come before a limit on size.
    """
    limit = MEMORY + (200 << 20)  # address space is more than memory: libraries are mapped, not used
    done = subprocess.run(
        [sys.executable, "-c", CHILD % (limit, limit)],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for source, (kind, message) in zip(sources, json.loads(done.stdout), strict=True):
        assert kind == "TemplateError", f"{source[:80]!r}: {kind} {message[:200]}"
        assert reason in message or "runs longer than" in message, f"{source[:80]!r}: {message[:200]}"
        assert "'attack'" in message
        assert len(message) < 2000


def grow(step: str, start: str = "'ab'") -> str:
    """A namespace value replaced by something larger 200 times."""
    turns = "{% for i in range(200) %}" + step + "{% endfor %}"
    return "{% set n = namespace(s=" + start + ") %}" + turns + "{{ n.s|length }}"


# ---- reaching out of the sandbox -----------------------------------------------------------------------------------


def test_attribute_walks() -> None:
    attack(
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''['__class__'] }}",
        "{{ ''|attr('__class__') }}",
        "{{ ['a']|map(attribute='__class__')|list }}",
        "{{ ['a']|groupby('__class__') }}",
        "{{ ['a']|join(attribute='__class__') }}",
        "{{ ['a']|sum('__class__') }}",
        "{{ '{0.__class__}'.format('a') }}",
        "{{ '{a.__class__}'.format_map({'a': 1}) }}",
        "{{ '{0[__class__]}'.format('a') }}",
        "{{ raise_exception.__globals__ }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ self.__init__ }}",
        "{{ self._TemplateReference__context }}",
        "{% for x in [1] %}{{ loop.__class__ }}{% endfor %}",
        "{% macro m() %}{% endmacro %}{{ m._environment }}",
        "{{ messages.__class__ }}",
        reason="is refused",
    )


def test_underscores_in_a_namespace() -> None:
    attack(
        "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
        "{% set ns = namespace(__class__=1) %}",
        reason="underscore",
    )


def test_jinja_helpers_with_ways_out_do_not_exist() -> None:
    attack(
        "{{ cycler.__init__.__globals__.os }}",
        "{{ joiner.__init__.__globals__ }}",
        "{{ lipsum.__globals__ }}",
        reason="refused",
    )
    attack("{{ lipsum(n=100000) }}", reason="is undefined")
    attack("{{ cycler(1) }}", "{{ joiner() }}", "{{ [cycler(1)]|tojson }}", reason="cannot be printed")
    attack("{{ cycler(1)['__class__'] }}", "{{ cycler(1)|attr('__init__') }}", "{{ joiner()._x }}", reason="refused")
    attack("{{ cycler(1).next.__globals__ }}", "{{ joiner().__call__() }}", reason="refused")


def test_methods_that_are_not_listed() -> None:
    attack(
        "{{ (1).to_bytes(1000000000, 'big') }}",
        "{{ 'a'.translate({97: 'bbbb'}) }}",
        "{{ 'a'.encode('idna') }}",
        "{{ ''.maketrans('a', 'b') }}",
        "{{ (1.5).hex() }}",
        reason="is refused",
    )


def test_changing_the_messages() -> None:
    attack(
        "{{ messages.append(1) }}",
        "{{ messages.clear() }}",
        "{{ messages[0].update({'content': 'x'}) }}",
        "{{ messages[0].pop('role') }}",
        reason="unsafe",
    )


def test_the_callers_messages_are_a_copy() -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": ["a", {"deep": 1}]}]
    before = json.dumps(messages)
    ChatTemplate("{% set m = messages[0] %}{% set ns = namespace(x=m) %}{% set ns.x = 1 %}{{ ns.x }}").render(messages)
    assert json.dumps(messages) == before


def test_include() -> None:
    attack("{% include 'x' %}", "{% include ['/etc/passwd'] ignore missing %}", reason="{% include %} is refused")


def test_import() -> None:
    attack("{% import 'x' as y %}", "{% from 'x' import y %}", reason="{% import %} is refused")


def test_extends() -> None:
    attack("{% extends 'x' %}", "{% if 0 %}{% extends messages[0] %}{% endif %}", reason="{% extends %} is refused")


# ---- time ----------------------------------------------------------------------------------------------------------


def test_endless_loop() -> None:
    attack(
        "{% for a in range(100000) recursive %}{% if loop.depth < 30 %}{{ loop(range(9)) }}{% endif %}{% endfor %}",
        reason="runs longer",
    )


def test_nested_loops() -> None:
    loops = "".join("{% for x in range(100000) %}" for _ in range(4))
    ends = "{% endfor %}" * 4
    attack(loops + ends, loops + "{% set a = 1 %}" + ends, reason="runs longer")


def test_loops_whose_condition_never_holds() -> None:
    attack("{% for i in range(100000) %}{% for j in range(100000) if j < 0 %}{% endfor %}{% endfor %}", reason="longer")


def test_loops_hidden_in_filters() -> None:
    body = "{% for i in range(100000) %}{{ range(50000)|FILTER }}{% endfor %}"
    attack(
        *(
            body.replace("FILTER", name)
            for name in ("select('odd')|list|length", "map('string')|list|length", "sum", "reject('odd')|first", "max")
        ),
        reason="runs longer",
    )


def test_comparing_large_values_again_and_again() -> None:
    attack(
        "{% set a=[[1]*1000]*40 %}{% set b=[[1.0]*1000]*40 %}{% for i in range(100000) %}{{ a == b }}{% endfor %}",
        reason="runs longer",
    )


def test_fanning_macros() -> None:
    attack(
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(50) }}",
        reason="runs longer",
    )


def test_recursion_by_macros() -> None:
    attack(
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% macro f() %}{{ caller() }}{% endmacro %}"
        "{% macro g() %}{% call f() %}{{ g() }}{% endcall %}{% endmacro %}{{ g() }}",
        "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
        reason="nested deeper than 64",
    )


def test_recursion_by_blocks() -> None:
    attack("{% block a %}{{ self.a() }}{% endblock %}", reason="cannot be called")


def test_slow_searches() -> None:
    attack(
        "{{ ('a'*1000000).strip('b'*1000000) }}",
        "{{ ('a'*1000000)|trim('b'*1000000) }}",
        "{{ ('a'*1000000).rfind('b'+'a'*100000) }}",
        "{{ ('a'*1000000).rsplit('b'+'a'*100000) }}",
        reason="searched for is longer",
    )


def test_filters_slower_than_their_input_do_not_exist() -> None:
    attack("{{ ('<!---->'*100000)|striptags }}", "{{ 'a'|urlize }}", reason="No filter named")
    attack("{{ ('a'*1000000)|pprint }}", "{{ ([['a'] * 50] * 100)|pprint }}", reason="pprint takes at most")
    attack("{{ ('a'*1000000)|wordwrap(1) }}", reason="wordwrap takes at most")


# ---- size ----------------------------------------------------------------------------------------------------------


def test_huge_powers() -> None:
    attack("{{ 10**1000000 }}", "{{ 9**9**9**9**9**9 }}", "{{ 2**(2**30) }}", reason="4096 bits")
    attack(grow("{% set n.s = n.s * n.s %}", "3").replace("|length", ""), reason="4096 bits")


def test_huge_numbers_in_text() -> None:
    attack("{{ " + "9" * 200_000 + " }}", reason="more than 300 digits")
    attack("{{ ('9'*1000000)|int }}", reason="too long for a number")


def test_huge_repeats() -> None:
    attack(
        "{{ 'a' * 10**10 }}",
        "{{ 10**10 * 'a' }}",
        "{{ [1] * 10**9 }}",
        "{{ (1, 2) * 10**9 }}",
        "{% set x = ['a' * 1000000] * 1000 %}",
        reason="would be larger",
    )


def test_huge_widths() -> None:
    attack(
        "{{ 'a'|center(10**9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ 'a'.rjust(10**9) }}",
        "{{ '1'.zfill(10**9) }}",
        "{{ '\t'.expandtabs(10**9) }}",
        "{{ ('a\n'*1000)|indent(10**9) }}",
        "{{ [[1]]|tojson(indent=10**9) }}",
        "{{ 1.5|round(10**9, 'floor') }}",
        "{{ [1]|batch(10**9, 'x')|list }}",
        "{{ [1]|slice(10**9)|list }}",
        reason="width or count is larger",
    )


def test_huge_widths_in_formats() -> None:
    attack(
        "{{ '%1000000000d' % 1 }}",
        "{{ '%.1000000000f' % 1 }}",
        "{{ '%*d' % (1000000000, 1) }}",
        "{{ '%01000000000d'|format(1) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ '{:.1000000000f}'.format(1.0) }}",
        "{{ '{:{w}}'.format(1, w=1000000000) }}",
        reason="a width in a format is larger",
    )
    attack("{{ strftime_now('%999999999d') }}", "{{ strftime_now('%_999999999d') }}", reason="without widths")


def test_formats_that_multiply() -> None:
    attack(
        "{{ ('{0}'*100000).format('a'*100000) }}",
        "{{ ('%(a)s'*100000) % {'a': 'a'*100000} }}",
        "{{ ('%(a)s'*100000)|format(a='a'*100000) }}",
        reason="a formatted text would be larger",
    )


def test_growing_texts() -> None:
    attack(
        grow("{% set n.s = n.s + n.s %}"),
        grow("{% set n.s = n.s ~ n.s %}"),
        grow("{% set n.s = [n.s, n.s]|join %}"),
        grow("{% set n.s = n.s.join([n.s, n.s, n.s]) %}"),
        grow("{% set n.s = n.s|replace('a', n.s) %}"),
        grow("{% set n.s = n.s.replace('a', n.s) %}"),
        grow("{% set n.s = '%s%s' % (n.s, n.s) %}"),
        grow("{% set n.s = '{0}{0}'.format(n.s) %}"),
        grow("{% set x %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = x %}"),
        "{% macro d(s) %}{{ s }}{{ s }}{% endmacro %}" + grow("{% set n.s = d(n.s) %}"),
        reason="larger than",
    )


def test_growing_lists() -> None:
    attack(
        grow("{% set n.s = n.s + n.s %}", "[1]"),
        grow("{% set n.s = [n.s, n.s, n.s, n.s] %}", "[1]"),
        grow("{% set n.s = (n.s, n.s, n.s, n.s) %}", "[1]"),
        grow("{% set n.s = {'a': n.s, 'b': n.s, 'c': n.s} %}", "{}"),
        grow("{% set n.s = dict(a=n.s, b=n.s, c=n.s) %}", "{}"),
        "{{ ('a' * 1000000)|list }}",
        "{{ ('a' * 1000000)|sort }}",
        "{{ ('a' * 1000000)|unique }}",
        "{{ range(100000)|list }}",
        "{% for i in range(9) %}{{ ('ab,'*1000000).split(',')|length }}{% endfor %}",
        reason="larger than",
    )


def test_deep_lists() -> None:
    attack("{% set n = namespace(s=[]) %}{% for i in range(9999) %}{% set n.s = [n.s] %}{% endfor %}", reason="deeper")


def test_values_that_contain_themselves() -> None:
    attack(
        "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
        "{% set n = namespace() %}{% set n.n = [n] %}{{ n.n }}",
        "{% set n = namespace() %}{% set n.n = [n] %}{{ n.n|tojson }}",
        reason="cannot be printed",
    )


def test_ranges() -> None:
    attack(
        "{% for i in range(10**10) %}{% endfor %}",
        "{{ range(10**8)|list }}",
        "{{ range(0, 0 - 10**18, -1)|first }}",
        reason="a range has more",
    )


def test_endless_output() -> None:
    attack("{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}", reason="the prompt is longer")


def test_output_kept_in_a_block() -> None:
    attack(
        "{% set x %}{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}{% endset %}",
        "{% macro m() %}{% for i in range(100000) %}" + "x" * 1000 + "{% endfor %}{% endmacro %}{{ m() }}",
        reason="a text would be larger",
    )


def test_memory_kept_by_recursion() -> None:
    attack(
        "{% macro f(s) %}{% set t = s[1:] %}{{ f(t) }}{% endmacro %}{{ f('\U0001f600'*1000000) }}",
        reason="too much text",
    )


def test_memory_kept_in_lists() -> None:
    step = "{% set n.s = n.s + ['\U0001f600' * 400000] %}"
    attack(grow(step, "[]"), reason="larger than")


# ---- before parsing ------------------------------------------------------------------------------------------------


def test_100000_brackets() -> None:
    attack(
        *("{{ " + a * 100_000 + b * 100_000 + " }}" for a, b in ("[]", "()", "{}")),
        "{{ " + "[" * 100_000,
        "{{" * 100_000,
        reason="nested deeper than 64",
    )


def test_deeply_nested_blocks() -> None:
    attack(
        "{% if 1 %}" * 9000 + "{% endif %}" * 9000,
        "{% for i in [1] %}" * 9000,
        "{%- filter upper -%}" * 9000,
        "{% set x %}" * 9000,
        "{% macro a() %}" * 9000,
        "{% call a() %}" * 9000,
        "{% generation %}" * 9000,
        reason="nested deeper than 64",
    )
    attack("{% for i in [1] %}" * 30 + "{% endfor %}" * 30, reason="nested too deeply")


def test_deep_expressions() -> None:
    attack(
        "{{ " + "not " * 9000 + "1 }}",
        "{{ " + "-" * 9000 + "1 }}",
        "{{ a" + ".a" * 9000 + " }}",
        "{{ a" + "|e" * 9000 + " }}",
        "{{ a" + "()" * 6000 + " }}",
        "{{ 1" + "+1" * 9000 + " }}",
        "{{ 1" + " and 1" * 9000 + " }}",
        "{{ 1" + " if 1 else 1" * 4000 + " }}",
        reason="nested too deeply",
    )


def test_huge_templates() -> None:
    attack("a" * (1 << 20), "{{ a }}" * 100_000, reason="characters, at most")
    attack("{{ a }}" * 20_000, "{{ 1" + "~1" * 15_000 + " }}", reason="more than 20,000 tokens")


def test_tags_that_do_not_end() -> None:
    attack("{#" * 100_000, "{% raw %}" * 20_000, "{{ '" + "\\" * 200_000, "{% if %}", "{{ ", reason="line 1")


# ---- messages ------------------------------------------------------------------------------------------------------


def test_errors_are_short_and_name_template_and_line() -> None:
    with pytest.raises(TemplateError) as caught:
        ChatTemplate("\n\n{{ raise_exception('x' * 1000000) }}", name="n" * 5000).render(MESSAGES)
    assert len(str(caught.value)) < 2000
    assert "line 3" in str(caught.value)
    assert isinstance(caught.value, PyggmlError)
    assert isinstance(caught.value, ValueError)


def test_hostile_messages() -> None:
    template = ChatTemplate("{{ messages|length }}")
    deep: list[Any] = []
    for _ in range(1000):
        deep = [deep]
    loop: dict[str, Any] = {"role": "user"}
    loop["content"] = loop
    for bad, reason in (
        ([{"role": "user", "content": deep}], "nested deeper"),
        ([loop], "nested deeper"),
        ([{"role": "user", "content": "a" * (1 << 25)}], "larger than"),
        ([{"role": "user", "content": b"bytes"}], "bytes"),
        ([{"role": "user", "content": object()}], "object"),
        ([{1: "user"}], "keys must be str"),
        ([{"n": 1 << 100_000}], "bits"),
        (["text"], "expected a dict"),
        ("text", "list of dicts"),
        ({"role": "user"}, "list of dicts"),
        (None, "list of dicts"),
    ):
        with pytest.raises(TemplateError, match=reason):
            template.render(bad)  # type: ignore[arg-type]
    with pytest.raises(TemplateError, match="function"):
        template.render(MESSAGES, tools=[lambda: 1])  # type: ignore[list-item]


def test_the_guard_is_gone_after_an_error() -> None:
    good = ChatTemplate("{{ messages[0].content }}")
    for _ in range(3):
        with pytest.raises(TemplateError):
            ChatTemplate("{{ 'a' * 10**10 }}").render(MESSAGES)
        assert good.render(MESSAGES) == "hello world"


def test_threads_have_budgets_of_their_own() -> None:
    slow = ChatTemplate("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}")
    good = ChatTemplate("{{ messages[0].content }}")
    errors: list[str] = []

    def hostile() -> None:
        try:
            slow.render(MESSAGES)
        except TemplateError as e:
            errors.append(str(e))

    thread = threading.Thread(target=hostile)
    thread.start()
    for _ in range(20):
        assert good.render(MESSAGES) == "hello world"
    thread.join()
    assert "runs longer" in errors[0]


def test_this_process_stayed_small() -> None:
    """The attacks above that run here must not have grown it beyond the promise."""
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 * MEMORY >> 10


def test_escaping_that_grows() -> None:
    start = "{% autoescape true %}{% set ns = namespace(s='<' * 100000) %}{% for i in range(40) %}"
    end = "{{ ns.s }}{% endfor %}{% endautoescape %}"
    attack(start + "{% set ns.s = ('' | e) ~ (ns.s | string | e) ~ ns.s %}" + end, reason="a text would be larger")
    attack(start + "{% set ns.s = ('' | e) ~ ns.s %}" + end, reason="the prompt is longer")

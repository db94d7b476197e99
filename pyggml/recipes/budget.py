"""A type for each tensor so that the whole is as good as its size allows.

Minimise the sum of costs while the sum of bytes stays below a limit: each tensor's choices are cut to their lower
convex hull, steps of all hulls are taken by what they save per byte (which solves the Lagrangian), and what room is
left is filled by single exchanges. Knows costs and bytes, not how they were measured.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from pyggml.errors import ArgumentError
from pyggml.gguf import GGUFFile
from pyggml.gguf.format import align_up
from pyggml.quant.types import QuantType
from pyggml.recipes.choose import Numbers, choose, quantizable
from pyggml.recipes.costs import Sensitivity, TensorCost, candidates
from pyggml.recipes.matching import Rules
from pyggml.recipes.recipe import Recipe, Rule

log = logging.getLogger("pyggml")

_HALVINGS = 60  # of the span of bits, until no byte differs
_UNUSED = 0.02  # of the room, above which it is said


class Option(NamedTuple):
    """One type a tensor may take."""

    nbytes: int
    cost: float
    kind: str


def solve(options: Mapping[str, Sequence[Option]], limit: int) -> dict[str, str]:
    """{tensor: type} of least cost within limit bytes. Raises ArgumentError where nothing fits.

    >>> o = [Option(10, 9.0, "a"), Option(20, 2.0, "b"), Option(40, 1.0, "c")]
    >>> solve({"x": o, "y": [Option(n, 10 * cost, kind) for n, cost, kind in o]}, 60)
    {'x': 'b', 'y': 'c'}
    """
    hulls = {name: hull(each) for name, each in options.items()}
    at = dict.fromkeys(hulls, 0)
    used = sum(h[0].nbytes for h in hulls.values())
    if used > limit:
        raise ArgumentError(f"{limit:,} bytes are not enough: the smallest types need {used:,}")
    steps = sorted(
        ((_gain(h[i], h[i + 1]), name, i) for name, h in hulls.items() for i in range(len(h) - 1)),
        key=lambda step: (-step[0], step[1], step[2]),
    )
    for _, name, i in steps:
        more = hulls[name][i + 1].nbytes - hulls[name][i].nbytes
        if at[name] == i and used + more <= limit:
            at[name], used = i + 1, used + more
    chosen = {name: h[at[name]] for name, h in hulls.items()}
    _exchange(options, chosen, limit - used)
    return {name: option.kind for name, option in chosen.items()}


def hull(options: Sequence[Option]) -> list[Option]:
    """The options on the lower convex hull of cost over bytes, small first."""
    made: list[Option] = []
    for option in sorted(options):
        if made and option.cost >= made[-1].cost:
            continue
        while len(made) > 1 and _gain(made[-2], made[-1]) <= _gain(made[-1], option):
            made.pop()
        if made and made[-1].nbytes == option.nbytes:
            made.pop()
        made.append(option)
    return made


def _gain(a: Option, b: Option) -> float:
    return (a.cost - b.cost) / max(b.nbytes - a.nbytes, 1)


def _exchange(options: Mapping[str, Sequence[Option]], chosen: dict[str, Option], room: int) -> None:
    """Takes the best single change that fits, until none helps; hulls leave options out that fill a gap well."""
    while True:
        best = max(
            (
                (chosen[name].cost - option.cost, name, option)
                for name, each in options.items()
                for option in each
                if option.nbytes - chosen[name].nbytes <= room and option.cost < chosen[name].cost
            ),
            key=lambda change: (change[0], change[1]),
            default=None,
        )
        if best is None:
            return
        _, name, option = best
        room -= option.nbytes - chosen[name].nbytes
        chosen[name] = option


def recipe_for(
    file: GGUFFile,
    costs: Sensitivity,
    recipe: Recipe,
    *,
    target_bpw: float | None = None,
    target_size: int | None = None,
) -> Recipe:
    """A recipe with a rule for each matrix: a file of target_bpw bits per weight or target_size bytes.

    What the given recipe's rules, keeps and types name stays theirs; tensors without costs, and those whose rows fit no
    type that was measured, get what its base gives them. Raises ArgumentError where the target is out of reach or the
    costs belong to another model.
    """
    room = _room_for(file, costs, recipe, target_bpw, target_size)
    largest = {name: max(option.nbytes for option in each) for name, each in room.free.items()}
    unused = 1 - sum(largest.values()) / room.limit
    if unused > _UNUSED and any(nbytes < file.tensors[name].nbytes for name, nbytes in largest.items()):
        log.warning(
            "the largest types that were measured leave %.0f%% of the room unused; measure larger ones too",
            100 * unused,
        )
    kinds = solve(room.free, room.limit)
    shares: Counter[str] = Counter()
    for name, kind in kinds.items():
        shares[kind] += file.tensors[name].n_elements
    rules = [Rule(f"^{re.escape(name)}$", kind) for name, kind in (kinds | room.based).items()]
    return replace(
        recipe, base=f"pure:{shares.most_common(1)[0][0]}", rules=[*recipe.rules, *rules], max_size=None, smaller=[],
        note=f"chosen for {f'{target_size} bytes' if target_size is not None else f'{target_bpw} bits per weight'}",
    )  # fmt: skip


def bits_left(file: GGUFFile, recipe: Recipe, target_bpw: float | None, target_size: int | None) -> float:
    """Bits per weight that a target leaves for the tensors whose type is to be chosen, before anything is measured.

    Where some cannot be so small, for the others. Raises ArgumentError where the target is out of reach.
    """
    possible = {
        name: TensorCost(name, info.shape, info.type.name, {kind.name: 0.0 for kind in candidates(info)})
        for name, info in file.tensors.items() if quantizable(info)
    }  # fmt: skip
    room = _room_for(file, Sensitivity(possible), recipe, target_bpw, target_size)
    sizes = []
    for name, each in room.free.items():
        kinds = [QuantType.parse(option.kind).bits_per_weight for option in each]
        sizes.append((file.tensors[name].n_elements, min(kinds), max(kinds)))
    low, high = min(least for _, least, _ in sizes), max(most for _, _, most in sizes)
    for _ in range(_HALVINGS):
        bits = (low + high) / 2
        need = sum(_room(int(n * min(max(bits, least), most) / 8), file, target_size) for n, least, most in sizes)
        low, high = (bits, high) if need <= room.limit else (low, bits)
    return low


class _Room(NamedTuple):
    """What a target leaves: the options of each tensor that may be chosen, the types that the recipe's base gives to
    matrices nobody measured, and the bytes there are for the options."""

    free: dict[str, list[Option]]
    based: dict[str, str]
    limit: int


def _room_for(
    file: GGUFFile, costs: Sensitivity, recipe: Recipe, target_bpw: float | None, target_size: int | None
) -> _Room:
    numbers = Numbers.from_metadata(file.metadata)
    asked = choose(recipe, file.tensors.values(), numbers)
    rules = Rules((*recipe.keep, *recipe.rules), numbers.n_layer)
    forced = {"output.weight": recipe.output_type, "token_embd.weight": recipe.embedding_type}
    if "output.weight" not in file.tensors:
        forced["token_embd.weight"] = recipe.embedding_type or recipe.output_type
    free: dict[str, list[Option]] = {}
    based: dict[str, str] = {}
    fixed = 0
    for name, info in file.tensors.items():
        cost = costs.tensors.get(name)
        theirs = forced.get(name) or rules.first(name) is not None
        if cost is not None and not theirs and tuple(cost.shape) != info.shape:
            raise ArgumentError(
                f"{name} is {info.shape}, but was measured as {tuple(cost.shape)}: another model's costs"
            )
        if cost is None or theirs or not cost.error:
            kind = asked[name].type
            fixed += _room(info.n_elements // info.shape[-1] * kind.row_bytes(info.shape[-1]), file, target_size)
            if not theirs and quantizable(info):
                based[name] = kind.name
            continue
        free[name] = [Option(_room(cost.nbytes(kind), file, target_size), cost.cost(kind), kind) for kind in cost.error]
    if not free:
        raise ArgumentError(
            "there is no tensor to choose a type for: the rules name all, the costs are another model's, or rows fit "
            "no type that was measured"
        )
    if target_size is not None:
        limit = target_size - _overhead(file)
    elif target_bpw is not None and target_bpw > 0:
        limit = int(target_bpw * sum(t.n_elements for t in file.tensors.values()) / 8)
    else:
        raise ArgumentError(f"a target is bits per weight above 0 or bytes, got {target_bpw}")
    _check_reach(file, free, fixed, target_bpw, target_size)
    return _Room(free, based, limit - fixed)


def _check_reach(
    file: GGUFFile, free: dict[str, list[Option]], fixed: int, target_bpw: float | None, target_size: int | None
) -> None:
    """Raises ArgumentError for a target below what the smallest types give, or one that the source itself meets."""
    low = fixed + sum(min(option.nbytes for option in each) for each in free.values())
    high = fixed + sum(max(option.nbytes for option in each) for each in free.values())
    if target_size is not None:
        head = _overhead(file)
        if not low + head <= target_size < file.size:
            whole = f"; the source has {file.size:,}" if target_size >= file.size else ""
            span = _span(f"{low + head:,}", f"{min(high + head, file.size):,}", low < high)
            raise ArgumentError(f"a file of {target_size:,} bytes is out of reach: {span}{whole}")
    elif target_bpw is not None:
        count = sum(t.n_elements for t in file.tensors.values())
        bits = 8 * sum(t.nbytes for t in file.tensors.values()) / count
        if not low <= target_bpw * count / 8 <= bits * count / 8:
            whole = f"; the source has {bits:.4g}" if target_bpw > bits else ""
            least, most = math.ceil(800 * low / count) / 100, math.floor(100 * min(8 * high / count, bits)) / 100
            span = _span(f"{least:.2f}", f"{most:.2f}", least < most)
            raise ArgumentError(f"{target_bpw:g} bits per weight are out of reach: {span}{whole}")


def _span(low: str, high: str, wide: bool) -> str:
    return f"between {low} and {high}" if wide else f"the types that may be chosen make {low}"


def _room(nbytes: int, file: GGUFFile, target_size: int | None) -> int:
    return nbytes if target_size is None else align_up(nbytes, file.alignment)


def _overhead(file: GGUFFile) -> int:
    """Bytes of the new file before its tensors, not less than they will be."""
    first = [t for t in file.tensors.values() if t.part == 0]
    others = [t for t in file.tensors.values() if t.part]
    head = min((t.offset for t in first), default=1 << 16)
    return head + 128 + sum(len(t.name) + 64 for t in others) + 2 * file.alignment

"""Gives each run random numbers of its own, whatever a preloaded module has made of them at its import.

The fork server remembers the generators that exist when it is ready, and the flow process seeds each from the operating
system. That includes those that a module seeded with a fixed number when it was imported: in a fresh interpreter they
would give every run the same numbers, here they do so only if the run seeds them itself.

Not reached: generators that are not visible to Python (the state of a C library), and numpy's SeedSequence objects that
a module keeps beside its generators. Python's `random` seeds its own functions after a fork, and what reads os.urandom
(uuid4, secrets) has no state.
"""

import gc
import sys
import weakref
from typing import Any, Callable, Dict, List, Tuple

#: How to seed one generator again.
_Reseed = Callable[[Any], None]

#: What gives each generator of this process, or None when it is gone, and how to seed it.
_remembered: List[Tuple[Callable[[], Any], _Reseed]] = []


def remember() -> None:
    """Remember the generators that exist now. Before gc.freeze, after which they are not listed."""
    ways = _ways()
    kinds: Dict[type, Any] = {}
    _remembered.clear()
    for found in gc.get_objects():
        kind = type(found)  # and not isinstance, which asks lazy objects for their __class__
        if kind not in kinds:
            kinds[kind] = next((way for base, way in ways if issubclass(kind, base)), None)
        if kinds[kind] is not None:
            _remembered.append((_reference(found), kinds[kind]))


def reseed() -> None:
    """Seed the remembered generators from the operating system, and those of libraries that have one for all."""
    for reference, way in _remembered:
        found = reference()
        if found is not None:
            try:
                way(found)
            except Exception:  # a generator of foreign code, which cannot be seeded like this
                continue
    # Those that are not listed among the garbage collector's objects.
    numpy_random = sys.modules.get("numpy.random")
    if hasattr(numpy_random, "seed"):
        numpy_random.seed()  # type: ignore[union-attr]
    torch = sys.modules.get("torch")
    if hasattr(torch, "default_generator"):
        torch.default_generator.seed()  # type: ignore[union-attr]
    if "uuid" in sys.modules:
        sys.modules["uuid"]._last_timestamp = None  # type: ignore[attr-defined]


def _ways() -> List[Tuple[type, _Reseed]]:
    """Return the classes of generators that are loaded, and how to seed each again."""
    ways: List[Tuple[type, _Reseed]] = []
    if "random" in sys.modules:  # not imported here, because that would cost every fork server memory
        ways.append((sys.modules["random"].Random, _seed_random))
    numpy_random = sys.modules.get("numpy.random")
    for name, way in (("RandomState", _seed_by_method), ("BitGenerator", _renew_bits), ("Generator", _renew_bits_of)):
        kind = getattr(numpy_random, name, None)
        if isinstance(kind, type):
            ways.append((kind, way))
    kind = getattr(sys.modules.get("torch"), "Generator", None)
    if isinstance(kind, type):
        ways.append((kind, _seed_by_method))
    return ways


def _seed_random(found: Any) -> None:
    try:
        found.seed()
    except TypeError:  # a subclass whose seed() wants an argument
        sys.modules["random"].Random.seed(found)


def _seed_by_method(found: Any) -> None:
    found.seed()


def _renew_bits_of(generator: Any) -> None:
    _renew_bits(generator.bit_generator)


def _renew_bits(bits: Any) -> None:
    """Give one of numpy's bit generators the state of a new one, and its seed sequence where numpy lets us."""
    fresh = type(bits)()
    try:
        bits.__setstate__(fresh.__getstate__())
    except Exception:  # before 1.24 there is only the state
        bits.state = fresh.state


def _reference(found: Any) -> Callable[[], Any]:
    try:
        return weakref.ref(found)
    except TypeError:  # numpy's cannot be referred to weakly
        return lambda: found

"""Keys of samples: unique in a run, and as before where the plain name was unique."""

from __future__ import annotations

from sia_gen.core.keys import key_prefixes, plain_name, sample_key


def test_plain_names_stay_as_they_are() -> None:
    pairs = [("textures", "brick"), ("textures", "toothbrush 2"), ("mine", "螺丝")]
    found = key_prefixes(pairs)
    assert [found[p] for p in pairs] == ["brick", "toothbrush_2", "__"]
    assert sample_key("brick", 7) == "brick-00000007"


def test_two_datasets_and_names_without_ascii_stay_apart() -> None:
    pairs = [("lineA", "bolt"), ("lineB", "bolt"), ("线", "bolt"), ("路", "bolt"), ("x", "nut")]
    pairs += [("cjk", "螺丝"), ("cjk", "螺母"), ("d", "a b"), ("d", "a.b"), ("d", "A_B")]
    pairs += [("d", "x" * 80 + "1"), ("d", "x" * 80 + "2")]
    found = key_prefixes(pairs)
    assert found["lineA", "bolt"] == "lineA-bolt" and found["x", "nut"] == "nut"
    prefixes = [prefix.casefold() for prefix in found.values()]
    assert len(set(prefixes)) == len(pairs)
    assert all(prefix == plain_name(prefix) for prefix in found.values())
    # The same categories in another order have the same keys.
    assert key_prefixes(pairs[::-1]) == found

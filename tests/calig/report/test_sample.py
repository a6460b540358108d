from __future__ import annotations

from calig.report.sample import QUOTAS, choose, with_words


def test_each_kind_gives_its_quota_best_first() -> None:
    candidates = [("error", doc, 1 - doc / 100) for doc in range(30)]
    reasons = choose(candidates)
    assert list(reasons) == list(range(QUOTAS["error"]))
    assert reasons[0] == (("error", 1.0),)


def test_a_document_can_have_several_reasons() -> None:
    reasons = choose([("error", 4, 0.9), ("one_word", 4, 0.5), ("typical", 7, 0.0)])
    assert [kind for kind, _ in reasons[4]] == ["error", "one_word"]


def test_every_listed_word_gets_a_document_while_there_is_room() -> None:
    evidence = [
        ("pos", "good", 1),
        ("pos", "great", 1),
        ("neg", "bad", 2),
        ("pos", "good", 3),
        ("neg", "dull", 4),
    ]
    reasons = with_words(choose([("error", 2, 0.9)]), evidence)
    assert set(reasons) == {2, 1, 4}
    assert reasons[1] == (("evidence", 2.0),)


def test_the_limit_holds() -> None:
    candidates = [(kind, doc + 100 * place, 0.5) for place, kind in enumerate(QUOTAS) for doc in range(50)]
    evidence = [("c", f"w{doc}", 1000 + doc) for doc in range(100)]
    assert len(with_words(choose(candidates), evidence)) == 60
    assert len(with_words(choose(candidates, limit=10), evidence, limit=10)) == 10


def test_nothing_gives_nothing() -> None:
    assert with_words(choose([]), []) == {}

"""Answers to a browser."""

from cars_rt.view.page.answers import Answers


def test_no_answer_takes_the_place_of_another_one() -> None:
    answers = Answers()
    assert answers.ask("reload") == ("reload …", False)
    assert answers.ask("record") == ("reload … · record …", False)
    assert answers.answer("record", "record: no disk", True) == (
        "reload … · record: no disk",
        True,
    )
    assert answers.answer("reload", "reload: done", False) == ("reload: done · record: no disk", True)
    assert answers.ask("dark") == ("dark …", False)  # nothing was waited for: a new sentence

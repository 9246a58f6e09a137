"""A head that does not answer is told once, and ends the command before Ray does."""

from audioflow.engine.head_watch import Head

WHY = "Connection refused"


def test_a_head_that_is_gone_is_told_and_then_given_up() -> None:
    told: list[str] = []
    ended: list[str] = []
    head = Head("10.0.0.1:6379", told.append, ended.append, 60.0)
    for second in range(0, 48, 2):
        head.look(WHY, 1000.0 + second)
    assert told == [
        "the head of the cluster (10.0.0.1:6379) does not answer: Connection refused; without it "
        "this command ends in 42 s"
    ]
    assert not ended
    head.look(WHY, 1048.0)
    (why,) = ended
    assert why.startswith("the head of the cluster (10.0.0.1:6379) has not answered for 48 s: Conn")
    assert "run the same command again to go on" in why


def test_a_head_that_answers_again_has_all_the_time_anew() -> None:
    told: list[str] = []
    ended: list[str] = []
    head = Head("10.0.0.1:6379", told.append, ended.append, 60.0)
    for second in (0, 2, 4):
        head.look(WHY, second)
    head.look("", 6)
    for second in range(8, 54, 2):
        head.look(WHY, second)
    assert (len(told), ended) == (1, [])
    head.look("", 54)
    head.look(WHY, 56)
    head.look(WHY, 62)
    assert (len(told), ended) == (2, [])

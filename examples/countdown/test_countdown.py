"""`pytest` in this folder, or `eto environments check countdown` once it is installed."""

from countdown import Countdown

from eto.environments.toolkit.conformance import check_environment


def test_it_keeps_the_contract():
    suite = Countdown()
    assert check_environment(suite, suite.tasks("train")) == []

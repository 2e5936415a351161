"""Every statistic that statsmodels has too, on random inputs."""

import pytest
from bench import against_statsmodels


@pytest.mark.parametrize("name", against_statsmodels.CHECKS)
def test_it_equals_statsmodels(name):
    assert against_statsmodels.largest(against_statsmodels.CHECKS[name], 200, seed=1) < 1e-9

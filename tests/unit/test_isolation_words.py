"""What people read of a run's isolation, and of how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from flowherd.isolation.advice import advice
from flowherd_runner.contract.isolation import InForce, Isolation, Missing, in_words, summary

#: What a trial says that a host lacks.
_NAMESPACES = "a pid namespace: this host does not let this user have namespaces of its own"
_LANDLOCK = "Landlock's rules for files: this kernel has no Landlock, or it is off (lsm=)"


def test_the_sentence_says_what_is_in_force_what_is_missing_and_what_was_shown() -> None:
    whole = InForce("sealed", "sealed", "none", proved=("a cannot be opened", "b cannot be changed"))
    assert in_words(whole) == (
        "Kept apart: sealed, without a network. Tried before the start: a cannot be opened; b cannot be changed."
    )
    less = InForce("sealed", "private", "host", missing=(Missing("x", "no x here"), Missing("y", "")))
    assert in_words(less) == (
        "Kept apart less than was asked for: private instead of sealed. Not in force: x (no x here); y."
    )
    assert in_words(InForce("private")).startswith("Not kept apart, although private was asked for.")


def test_a_run_that_was_refused_has_no_such_sentence_and_one_that_may_have_less_has() -> None:
    nothing = InForce("private", missing=(Missing("a pid namespace", "none here"),))
    assert summary(nothing, Isolation("private")) == ""
    assert "a pid namespace (none here)" in summary(nothing, Isolation("private", if_missing="weaker"))
    assert summary(None, Isolation()) == ""


@pytest.mark.parametrize(
    ("files", "lacks", "says"),
    [
        ({"proc/sys/kernel/unprivileged_userns_clone": "0"}, _NAMESPACES, "unprivileged_userns_clone=1"),
        ({"proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1"}, _NAMESPACES, "AppArmor profile"),
        ({"proc/sys/user/max_pid_namespaces": "0"}, _NAMESPACES, "user.max_pid_namespaces=10000"),
        ({"proc/sys/user/max_user_namespaces": "4096"}, _NAMESPACES, "a seccomp profile that allows unshare"),
        ({"sys/kernel/security/lsm": "capability,yama"}, _LANDLOCK, "lsm=landlock,capability,yama"),
        ({"sys/kernel/security/lsm": "landlock,yama"}, _LANDLOCK, "need Linux 5.13"),
        ({}, "something else", "please report this"),
    ],
)
def test_the_advice_follows_what_this_kernel_has(tmp_path: Path, files: dict[str, str], lacks: str, says: str) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content + "\n")
    assert says in advice(lacks, is_root=False, system=tmp_path)


def test_root_is_told_of_capabilities() -> None:
    assert "CAP_SYS_ADMIN" in advice(_NAMESPACES, is_root=True)

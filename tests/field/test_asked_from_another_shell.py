"""Mounts that run, and a shell that knows less than the one they were started in: other folders, mistakes in the settings."""

from __future__ import annotations

import json

from support.home import Home
from support.waiting import eventually


def test_settings_that_change_or_break_while_mounted(home: Home) -> None:
    """A mistake in the settings would go unmentioned, or keep a user from unmounting what is mounted."""
    mounted = home.mount("home")
    mounted.expect("takes effect with the next mount|keeping the settings read before")
    home.config.mkdir(parents=True, exist_ok=True)
    config = home.config / "config.toml"

    def said() -> list[str]:
        return [line for line in home.cli("status").stdout.splitlines() if line.startswith("  settings: ")]

    config.write_text("[mount]\nread_only = true\n")
    eventually(
        lambda: said() == [f"  settings: mount.read_only of {config} takes effect with the next mount"], "it is not told"
    )
    (mounted.path / "a").write_text("still writable")
    config.write_text("[mount]\nraed_only = true\n")
    eventually(lambda: any("unknown key 'mount.raed_only'" in line for line in said()), "the mistake is not told")
    # What is mounted can be looked at and ended all the same; what would start something names the mistake.
    mounted.sync()
    assert home.cli("conflicts").stdout == "No conflicts.\n"
    assert "unknown key 'mount.raed_only'" in home.complaint("buck", "ls")
    config.unlink()
    eventually(lambda: said() == [], "what is right again is still told")
    config.write_text("[mount\n")
    mounted.umount()


def test_another_runtime_folder(home: Home) -> None:
    """From another shell a mount could not be found, or a second Hub or mount would start over the same data."""
    mounted = home.mount("home")
    other = home.root / "other"
    other.mkdir(mode=0o700)
    here, home.extra["XDG_RUNTIME_DIR"] = home.root / "run", str(other)
    assert home.cli("status").stdout.startswith(f"{mounted.path}: bucket home of the embedded Hub\n")
    (mounted.path / "a").write_text("x")
    mounted.sync()
    # There is one embedded Hub, whichever shell asks for it.
    assert home.cli("buck", "ls", "home").stdout == "a\n"
    assert len(home.pids("serve", "--embedded")) == 1
    second = home.root / "M"
    second.mkdir()
    assert f"mounted already at {mounted.path} (process " in home.complaint("mount", "home", second)

    # Where even that one cannot be found, it is said who holds it, and where.
    (home.data / "hub/socket").unlink()
    said = home.complaint("buck", "ls")
    (pid,) = home.pids("serve", "--embedded")
    assert f"runs already (process {pid}, listens at {here}/bucketfs/hub-" in said
    mounted.umount()


def test_another_home(home: Home) -> None:
    """Nothing there tells of the mount; the kernel does."""
    mounted = home.mount("home")
    known = dict(home.extra)
    for name in ("STATE_HOME", "RUNTIME_DIR"):
        (home.root / f"other-{name}").mkdir(mode=0o700)
        home.extra[f"XDG_{name}"] = str(home.root / f"other-{name}")
    said = home.cli("status").stdout
    assert said.startswith("Nothing is mounted with this HOME and these XDG folders; with others: ")
    assert str(mounted.path) in said and json.loads(home.cli("status", "--json").stdout) == []
    assert "nothing in " in home.complaint("status", mounted.path) and "names it" in home.complaint("sync", mounted.path)
    home.extra = known
    mounted.umount()

"""Options reach a driver as its own model; wrappers stand around it."""

from __future__ import annotations

import pytest

from layerstore_core import (
    ConfigError,
    DriverContractError,
    LayerStore,
    MaxDepthExceeded,
    load_config,
)
from tests.store.layers import BASE, MIDDLE, register


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


OPTIONS = """
class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")
    level: int = Field(default=1, ge=0, le=9)
    name: str = "x"

class Choosy(Driver):
    Options = Options
    def __init__(self, context):
        super().__init__(context)
        self.options = context.options
    @hookimpl
    def status(self):
        return [("level", self.options.level), ("name", self.options.name)]
"""


class TestOptions:
    @pytest.fixture
    def choosy(self, install):
        install("choosy-driver", OPTIONS, drivers="choosy = choosy_driver:Choosy\nplain = choosy_driver:Driver")

    def test_they_reach_the_driver_validated(self, choosy, root):
        with LayerStore.open(root=root, driver="choosy", drivers={"choosy": {"level": "3"}}) as store:
            assert store.driver_status() == [("level", "3"), ("name", "x")]

    def test_they_come_from_all_sources_together(self, choosy, root, tmp_path, monkeypatch):
        (tmp_path / "config.toml").write_text(
            '[drivers.choosy]\nlevel = 1\nname = "file"\n[drivers.other]\nanything = 1\n'
        )
        monkeypatch.setenv("LAYERSTORE_CONFIG", str(tmp_path / "config.toml"))
        monkeypatch.setenv("LAYERSTORE_DRIVERS", '{"choosy": {"level": 2}}')
        with LayerStore.open(load_config(root=root, driver="choosy")) as store:
            assert store.driver_status() == [("level", "2"), ("name", "file")]
        with LayerStore.open(load_config(root=root, driver="choosy", driver_options={"level": 4})) as store:
            assert store.driver_status() == [("level", "4"), ("name", "file")]

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"colour": 1}, ["unknown option 'colour'"]),
            ({"level": 10}, ["'level'", "less than or equal to 9", "10"]),
            ({"level": "much"}, ["'level'", "'much'"]),
            ({"level": [], "colour": 1}, ["'level'", "unknown option 'colour'"]),
        ],
    )
    def test_a_bad_one_is_named(self, choosy, root, options, words):
        with pytest.raises(ConfigError) as caught:
            LayerStore.open(root=root, driver="choosy", drivers={"choosy": options})
        for word in ["driver choosy", "from argument", *words]:
            assert word in str(caught.value)

    @pytest.fixture
    def naming(self, install):
        source = OPTIONS.replace("    Options = Options\n", '    Options = "naming_driver:Options"\n').replace(
            "self.options = context.options", "self.options = context.options or Options()"
        )
        install("naming-driver", source, drivers="naming = naming_driver:Choosy")

    def test_a_model_may_be_named_instead(self, naming, root):
        with LayerStore.open(root=root, driver="naming") as store:
            assert store.driver_status() == [("level", "1"), ("name", "x")]
        with LayerStore.open(root=root, driver="naming", drivers={"naming": {"level": "3"}}) as store:
            assert store.driver_status() == [("level", "3"), ("name", "x")]
        with pytest.raises(ConfigError, match="driver naming: unknown option 'colour'"):
            LayerStore.open(root=root, driver="naming", drivers={"naming": {"colour": 1}})

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("", "ValueError"),
            ("os:path", "no pydantic"),
            ("json:JSONDecoder", "no pydantic"),
            ("os:x", "AttributeError"),
        ],
    )
    def test_a_model_that_is_named_and_is_none(self, install, root, name, words):
        install("lost-driver", f"class Lost(Driver):\n    Options = {name!r}", drivers="lost = lost_driver:Lost")
        with pytest.raises(DriverContractError, match=f"driver lost: the model of its options, '{name}'.*{words}"):
            LayerStore.open(root=root, driver="lost", drivers={"lost": {"level": 1}})

    def test_a_driver_without_a_model_has_none(self, choosy, root):
        with pytest.raises(ConfigError, match="driver plain has no options, but was given level"):
            LayerStore.open(root=root, driver="plain", drivers={"plain": {"level": 1}})

    def test_the_driver_s_home_is_its_own(self, choosy, root):
        with LayerStore.open(root=root, driver="plain") as store:
            assert store.driver.home == root / "plain"


class TestWrappers:
    def test_they_stand_around_every_hook(self, install, root):
        install(
            "watch-wrap",
            """
            seen = []
            class Watch:
                @hookimpl(wrapper=True)
                def create(self, layer_id, parent_id):
                    seen.append(("create", len(layer_id), parent_id))
                    return (yield)
                @hookimpl(wrapper=True)
                def capabilities(self):
                    told = yield
                    return type(told)(max_depth=1)
            """,
            wrappers="watch = watch_wrap:Watch",
        )
        with LayerStore.open(root=root, driver="vfs") as store:
            layer = register(store, BASE)
            import watch_wrap

            assert watch_wrap.seen == [("create", 64, "")]
            with pytest.raises(MaxDepthExceeded):
                register(store, MIDDLE, layer)

    def test_one_that_is_misspelt_is_told(self, install, root):
        source = "class Watch:\n    @hookimpl(wrapper=True)\n    def creat(self):\n        return (yield)\n"
        install("bad-wrap", source, wrappers="bad = bad_wrap:Watch")
        with pytest.raises(DriverContractError, match=r"wrapper bad.*creat"):
            LayerStore.open(root=root, driver="vfs")

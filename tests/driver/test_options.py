"""Options of drivers, which reach a driver as its own model, and wrappers of drivers."""

from __future__ import annotations

import pytest

from layerstore_core import (
    ConfigError,
    DriverContractError,
    LayerStore,
    MaxDepthExceeded,
    StoreConfig,
    StoreDoesNotExist,
    load_config,
)
from layerstore_core.driver.probe import Probe, probe
from layerstore_core.driver.select import select_driver
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

    def test_options_reach_the_driver_validated(self, choosy, root):
        with LayerStore.open(root=root, driver="choosy", drivers={"choosy": {"level": "3"}}) as store:
            assert store.driver_status() == [("level", "3"), ("name", "x")]

    def test_options_of_all_sources_are_merged(self, choosy, root, tmp_path, monkeypatch):
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
    def test_an_invalid_option_is_named(self, choosy, root, options, words):
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

    def test_options_may_name_their_model(self, naming, root):
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
    def test_options_that_name_no_model(self, install, root, name, words):
        install("lost-driver", f"class Lost(Driver):\n    Options = {name!r}", drivers="lost = lost_driver:Lost")
        with pytest.raises(DriverContractError, match=f"driver lost: the model of its options, '{name}'.*{words}"):
            LayerStore.open(root=root, driver="lost", drivers={"lost": {"level": 1}})

    @pytest.mark.parametrize(("extra", "strict"), [("", True), ("extra='allow'", False), ("extra='ignore'", False)])
    def test_a_model_refuses_unknown_options_unless_it_decides_itself(self, install, root, extra, strict):
        source = OPTIONS.replace('extra="forbid"', extra)
        install("lax-driver", source, drivers="lax = lax_driver:Choosy")
        config = StoreConfig(root=root, driver="lax", drivers={"lax": {"level": 3, "nmae": "y"}})
        if strict:
            with pytest.raises(ConfigError, match=r"unknown option 'nmae'; did you mean name\?"):
                LayerStore.open(config)
        else:
            with LayerStore.open(config) as store:
                assert store.driver_status() == [("level", "3"), ("name", "x")]

    def test_a_driver_without_a_model_has_no_options(self, choosy, root):
        with pytest.raises(ConfigError, match="driver plain has no options, but was given level"):
            LayerStore.open(root=root, driver="plain", drivers={"plain": {"level": 1}})

    def test_the_home_of_a_driver(self, choosy, root):
        with LayerStore.open(root=root, driver="plain") as store:
            assert store.driver.home == root / "plain"


NEEDY = """
class Options(BaseModel):
    pool: str
    level: int = 0

class Needy(Driver):
    Options = Options
    priority = 100
    @classmethod
    def probe(cls, context):
        if context.options.pool != "tank":
            raise DriverNotSupported(f"there is no pool {context.options.pool}")
    def __init__(self, context):
        super().__init__(context)
        self.pool = context.options.pool
    @hookimpl
    def status(self):
        return [("pool", self.pool)]
"""


class TestProbing:
    """A driver is probed with the options that it would be opened with."""

    @pytest.fixture(autouse=True)
    def needy(self, install, only):
        only("vfs")
        install("needy-driver", NEEDY, drivers="needy = needy_driver:Needy")

    def test_probe_of_a_driver_with_its_required_options(self, root):
        config = StoreConfig(root=root, drivers={"needy": {"pool": "tank"}})
        assert probe("needy", config) == Probe(True)
        assert select_driver(config) == "needy"
        with LayerStore.open(config) as store:
            assert store.driver_status() == [("pool", "tank")]

    def test_probe_of_a_driver_that_does_not_work_with_its_options(self, root):
        config = StoreConfig(root=root, drivers={"needy": {"pool": "pond"}})
        assert probe("needy", config) == Probe(False, "there is no pool pond")
        assert select_driver(config) == "vfs"

    def test_another_driver_is_chosen_if_required_options_are_missing(self, root):
        found = probe("needy", root)
        assert (found.works, "option 'pool': Field required" in found.reason) == (False, True)
        assert select_driver(StoreConfig(root=root)) == "vfs"

    @pytest.mark.parametrize("where", ["needy", "*"])
    def test_no_other_driver_is_chosen_because_of_a_misspelt_option(self, root, where):
        config = StoreConfig(root=root, drivers={where: {"pool": "tank", "levle": 3}})
        with pytest.raises(ConfigError, match=r"driver needy: unknown option 'levle'; did you mean level\?"):
            select_driver(config)
        assert not root.exists()

    def test_options_for_any_driver_are_for_the_named_driver(self, root):
        config = StoreConfig(root=root, driver="needy", drivers={"*": {"pool": "tank"}})
        assert probe("needy", config).works
        assert probe("vfs", config).works
        assert not probe("vfs", StoreConfig(root=root, drivers={"*": {"pool": "tank"}})).works

    def test_a_model_of_options_that_raises(self, install, root):
        source = """
            from pydantic import field_validator
            class Options(BaseModel):
                level: int = 0
                @field_validator("level")
                @classmethod
                def _check(cls, value):
                    raise KeyError("bug")
            class Bad(Driver):
                Options = Options
        """
        install("bad-driver", source, drivers="bad = bad_driver:Bad")
        config = StoreConfig(root=root, driver="bad", drivers={"bad": {"level": 1}})
        with pytest.raises(DriverContractError, match="driver bad: the model of its options failed: KeyError"):
            LayerStore.open(config)

    def test_an_unexpected_error_of_a_probe(self, install, root):
        source = """
            class Bad(Driver):
                @classmethod
                def probe(cls, context):
                    raise KeyError("bug")
        """
        install("bad-driver", source, drivers="bad = bad_driver:Bad")
        with pytest.raises(DriverContractError, match="driver bad: its probe failed: KeyError"):
            LayerStore.open(root=root, driver="bad")
        assert not root.exists()


class TestWithoutAStore:
    @pytest.mark.parametrize("given", [{"create": False}, {"read_only": True}, {}])
    def test_an_unknown_option_is_an_error_without_a_store(self, root, given):
        config = StoreConfig(root=root, driver="vfs", drivers={"*": {"colour": 1}})
        with pytest.raises(ConfigError, match="driver vfs: unknown option 'colour'"):
            LayerStore.open(config, **given)
        assert not root.exists()

    def test_an_unknown_option_is_an_error_if_the_driver_would_be_chosen_by_priority(self, root, only):
        only("vfs")
        config = StoreConfig(root=root, drivers={"*": {"colour": 1}})
        with pytest.raises(ConfigError, match="driver vfs: unknown option 'colour'"):
            LayerStore.open(config, create=False)

    def test_without_a_driver_the_error_is_the_missing_store(self, root, only):
        only()
        with pytest.raises(StoreDoesNotExist):
            LayerStore.open(StoreConfig(root=root, drivers={"*": {"colour": 1}}), create=False)


def test_misspelt_driver_names_in_the_settings_are_logged(root, said):
    with LayerStore.open(
        root=root, driver="vfs", drivers={"overlya2": {"size": "1G"}, "zfs": {"x": 1}}, driver_priority=["btrsf", "x"]
    ):
        pass
    assert [record["message"].partition(";")[2] for record in said] == [
        " did you mean btrfs?",
        " did you mean overlay2 or overlay?",
    ]


class TestWrappers:
    def test_a_wrapper_wraps_hooks(self, install, root):
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
                    found = yield
                    return type(found)(max_depth=1)
            """,
            wrappers="watch = watch_wrap:Watch",
        )
        with LayerStore.open(root=root, driver="vfs") as store:
            layer = register(store, BASE)
            import watch_wrap

            assert watch_wrap.seen == [("create", 64, "")]
            with pytest.raises(MaxDepthExceeded):
                register(store, MIDDLE, layer)

    def test_a_misspelt_hook_of_a_wrapper_is_refused(self, install, root):
        source = "class Watch:\n    @hookimpl(wrapper=True)\n    def creat(self):\n        return (yield)\n"
        install("bad-wrap", source, wrappers="bad = bad_wrap:Watch")
        with pytest.raises(DriverContractError, match=r"wrapper bad.*creat"):
            LayerStore.open(root=root, driver="vfs")

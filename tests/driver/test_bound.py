"""The contract as core enforces it: required hooks, the fallback's answers, and answers that core refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import pytest

from layerstore_core import (
    Capabilities,
    ConfigError,
    DriverContractError,
    DriverNotSupported,
    MaxDepthExceeded,
    hookimpl,
)
from tests import tars
from tests.store.drivers import MountingDriver, SmallestDriver, open_with
from tests.store.layers import BASE, MIDDLE, TOP, chain, export, register, tar_of, tree, warm


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


def without(hook):
    """Return a factory of the smallest driver without one of its hooks."""
    methods = {
        name: getattr(SmallestDriver, name) for name in vars(SmallestDriver) if name not in ("__dict__", "__weakref__")
    }
    methods.pop(hook)
    return type("Lacking", (), methods)


class TestContract:
    @pytest.mark.parametrize("hook", ["create", "create_read_write", "remove", "get", "put", "exists"])
    def test_a_driver_without_a_required_hook_is_refused(self, root, hook):
        with pytest.raises(DriverContractError, match=f"lacks the hooks {hook},"):
            open_with(without(hook), root)

    def test_all_missing_hooks_are_named(self, root):
        with pytest.raises(DriverContractError, match="create, create_read_write, remove, get, put, exists"):
            open_with(lambda context: object(), root)

    def test_a_misspelt_hook_is_refused(self, root):
        class Misspelt(SmallestDriver):
            @hookimpl
            def apply_dif(self, layer_id):
                """A hook that the contract does not have."""

        with pytest.raises(DriverContractError, match="apply_dif"):
            open_with(Misspelt, root)

    def test_a_misspelt_argument_of_a_hook_is_refused(self, root):
        class Misspelt(SmallestDriver):
            @hookimpl
            def metadata(self, layer):
                """The contract's name is layer_id."""

        with pytest.raises(DriverContractError, match="layer"):
            open_with(Misspelt, root)

    def test_a_method_without_hookimpl_is_no_hook(self, root):
        class Unmarked(SmallestDriver):
            def status(self):
                raise AssertionError

        with open_with(Unmarked, root) as store:
            assert store.driver_status() == []

    def test_an_unexpected_error_of_a_drivers_constructor(self, root):
        def explode(context):
            raise ZeroDivisionError("bug")

        with pytest.raises(DriverContractError, match="failed to start: ZeroDivisionError: bug"):
            open_with(explode, root)

    @pytest.mark.parametrize("error", [DriverNotSupported("not here"), OSError(13, "no", "/x")])
    def test_an_expected_error_of_a_drivers_constructor_passes_through(self, root, error):
        def refuse(context):
            raise error

        with pytest.raises(type(error)) as caught:
            open_with(refuse, root)
        assert caught.value.__notes__ == ["while starting driver test"]

    @pytest.mark.parametrize(
        ("hook", "value", "use"),
        [
            ("get", 3, lambda store, layer: store.driver.get(layer.cache_id)),
            ("get", "relative/path", lambda store, layer: store.driver.get(layer.cache_id)),
            ("exists", "yes", lambda store, layer: store.driver.exists(layer.cache_id)),
            ("layer_ids", {1}, lambda store, layer: store.driver.layer_ids()),
            ("status", "fine", lambda store, layer: store.driver_status()),
            ("status", [1], lambda store, layer: store.driver_status()),
            ("metadata", [], lambda store, layer: layer.metadata()),
            ("capabilities", {"quota": True}, lambda store, layer: store.driver.capabilities),
            ("apply_diff", -1, lambda store, layer: register(store, MIDDLE)),
            ("apply_diff", True, lambda store, layer: register(store, MIDDLE)),
            ("apply_diff", "12", lambda store, layer: register(store, MIDDLE)),
            ("diff_size", 1.5, lambda store, layer: store.driver.diff_size(layer.cache_id, "")),
            ("changes", "none", lambda store, layer: store.driver.changes(layer.cache_id, "")),
            ("diff", b"tar", lambda store, layer: layer.tar_stream_from("")),
            ("diff_getter", {}, lambda store, layer: layer.tar_stream()),
        ],
    )
    def test_a_hook_that_returns_the_wrong_type(self, root, hook, value, use):
        answers = []

        def answer(self):
            return answers[0] if answers else None

        # A hook that returns `None` does not answer. So the driver works until `answers` has a wrong answer.
        driver = type("Odd", (SmallestDriver,), {hook: hookimpl(tryfirst=True)(answer)})
        if hook in ("get", "exists"):
            real = getattr(SmallestDriver, hook)

            @hookimpl
            def answer_or_work(self, layer_id):
                return answers[0] if answers else real(self, layer_id)

            setattr(driver, hook, answer_or_work)
        with open_with(driver, root) as store:
            layer = register(store, BASE)
            store.driver.__dict__.pop("capabilities", None)
            before = tree(root)
            answers.append(value)
            with pytest.raises(DriverContractError, match=f"driver test: its hook {hook} returned"):
                use(store, layer)
            answers.clear()
            assert tree(root) == before


class Labelling(SmallestDriver):
    """A driver that notes the labels that it gets."""

    labels: ClassVar[list[str]] = []

    @hookimpl
    def get(self, layer_id: str, mount_label: str) -> str:
        self.labels.append(mount_label)
        return SmallestDriver.get(self, layer_id)


class TestMountLabels:
    """A driver whose `get` takes no label would ignore it, and a container would run without its protection."""

    LABEL = "system_u:object_r:container_file_t:s0:c1,c2"

    def test_a_label_is_refused_where_get_takes_none(self, root):
        with open_with(MountingDriver, root) as store:
            layer = register(store, BASE)
            log = next(root.rglob("mount-log"))
            log.unlink()
            before = tree(root)
            with pytest.raises(ConfigError, match="the driver test labels no mounts") as caught:
                store.driver.get(layer.cache_id, self.LABEL)
            assert self.LABEL in str(caught.value)
            assert not store.driver.is_used(layer.cache_id)
            assert log.read_text().split() == ["get", layer.cache_id, "put", layer.cache_id]
            log.unlink()
            assert tree(root) == before

    @pytest.mark.parametrize("keep", [False, True])
    def test_a_refused_label_unmounts_nothing_that_others_use(self, root, keep):
        with open_with(MountingDriver, root) as one, open_with(MountingDriver, root) as other:
            layer = register(one, BASE)
            one.driver.get(layer.cache_id, keep=keep)
            log = next(root.rglob("mount-log"))
            log.unlink()
            with pytest.raises(ConfigError, match="labels no mounts"):
                other.driver.get(layer.cache_id, self.LABEL)
            assert not log.exists()
            one.driver.end_kept_mount(layer.cache_id) if keep else one.driver.put(layer.cache_id)
            assert log.read_text().split() == ["put", layer.cache_id]

    @pytest.mark.needs_root
    def test_a_label_that_the_layer_has_is_accepted(self, root):
        with open_with(SmallestDriver, root) as store:
            layer = register(store, BASE)
            path = store.driver.get(layer.cache_id)
            store.driver.put(layer.cache_id)
            os.setxattr(path, "security.selinux", self.LABEL.encode() + b"\0")
            assert store.driver.get(layer.cache_id, self.LABEL) == path
            store.driver.put(layer.cache_id)
            with pytest.raises(ConfigError):
                store.driver.get(layer.cache_id, f"{self.LABEL},c3")

    def test_a_driver_that_takes_a_label_has_it(self, root):
        with open_with(Labelling, root) as store:
            layer = register(store, BASE)
            store.driver.get(layer.cache_id, self.LABEL)
            store.driver.put(layer.cache_id)
            assert Labelling.labels[-1] == self.LABEL

    @pytest.mark.parametrize("keep", [False, True])
    @pytest.mark.parametrize("process", ["the same", "another"])
    def test_a_label_is_refused_for_a_layer_that_is_mounted_without_it(self, root, process, keep):
        """The mount that is there is what the container would get."""
        with open_with(Labelling, root) as one, open_with(Labelling, root) as another:
            layer = register(one, BASE)
            one.driver.get(layer.cache_id)
            driver = one.driver if process == "the same" else another.driver
            with pytest.raises(ConfigError, match="is mounted already, without the label"):
                driver.get(layer.cache_id, self.LABEL, keep=keep)
            assert driver.kept_mounts() == []
            assert not another.driver.is_used(layer.cache_id)
            assert one.driver.is_used(layer.cache_id)
            one.driver.put(layer.cache_id)
            assert not one.driver.is_mounted(layer.cache_id)
            assert driver.get(layer.cache_id, self.LABEL)
            driver.put(layer.cache_id)

    @pytest.mark.needs_root
    def test_a_label_that_the_mount_has_is_accepted(self, root):
        with open_with(Labelling, root) as one, open_with(Labelling, root) as another:
            layer = register(one, BASE)
            path = one.driver.get(layer.cache_id)
            os.setxattr(path, "security.selinux", self.LABEL.encode() + b"\0")
            assert one.driver.get(layer.cache_id, self.LABEL) == path
            assert another.driver.get(layer.cache_id, self.LABEL) == path
            assert another.driver.get(layer.cache_id) == path


class TestSmallest:
    def test_six_hooks_make_a_complete_driver(self, root):
        with open_with(SmallestDriver, root) as store:
            warm(store)
            before = tree(root)
            layers = chain(store, BASE, MIDDLE, TOP)
            assert [export(layer) for layer in layers] == [BASE, MIDDLE, TOP]
            assert [layer.diff_size for layer in layers] == [1220, 4014, 5]
            with layers[2].tar_stream_from(layers[0].chain_id) as stream:
                assert b"opt/other" in stream.read()
            rw = store.create_rw_layer("box", layers[2].chain_id, init=lambda path: Path(path, "init").touch())
            with rw.mounted() as path:
                Path(path, "new").write_bytes(b"12345")
            assert [str(change) for change in rw.changes()] == ["A /new"]
            assert rw.size() == 5
            assert rw.metadata()["ID"]
            with rw.tar_stream() as stream:
                store.release(store.register(stream, layers[2].chain_id))
            store.release_rw_layer(rw)
            store.cleanup()
            assert store.driver.layer_ids() is None
            assert store.driver.capabilities == Capabilities()
            for layer in layers:
                store.release(layer)
            assert tree(root) == before

    def test_status_and_metadata_of_the_smallest_driver(self, root):
        with open_with(SmallestDriver, root) as store:
            assert store.driver_status() == []
            assert register(store, BASE).metadata() == {"ID": store.layers().popitem()[1].cache_id}


class TestAnswers:
    def test_a_hook_that_returns_none_leaves_the_answer_to_the_fallback(self, root):
        class Silent(SmallestDriver):
            @hookimpl
            def capabilities(self):
                return None

            @hookimpl
            def apply_diff(self, layer_id, diff):
                return None

            @hookimpl
            def status(self):
                return None

            @hookimpl
            def diff(self, layer_id, parent_id):
                return None

        with open_with(Silent, root) as store:
            layer = register(store, BASE)
            assert export(layer) == BASE
            assert store.driver_status() == []
            assert store.driver.capabilities == Capabilities()

    def test_max_depth_is_the_smaller_of_driver_and_settings(self, root):
        class Shallow(SmallestDriver):
            @hookimpl
            def capabilities(self):
                return Capabilities(max_depth=2)

        with open_with(Shallow, root) as store:
            assert store.max_depth == 2
            *_, last = chain(store, BASE, MIDDLE)
            with pytest.raises(MaxDepthExceeded):
                register(store, TOP, last)
        with open_with(Shallow, root, max_depth=1) as store:
            assert store.max_depth == 1


def test_a_drivers_home_is_created_when_it_is_needed(root):
    with open_with(SmallestDriver, root) as store:
        assert tar_of({}) == tars.END
        layer = register(store, tar_of({}))
        assert export(layer) == tars.END
        assert layer.size == 0

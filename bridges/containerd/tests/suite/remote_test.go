package suite

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"gotest.tools/v3/assert"
)

// A JSON object: a root that has layers, and what they hold.
const remoteVariable = "SUITE_REMOTE"

const snapshotRef = "containerd.io/snapshot.ref"

type remoteRoot struct {
	Root   string
	Chain  []string          // The chain IDs of one image, the base first.
	Files  map[string]string // The files of the image, with their contents.
	Absent []string          // Files of a lower layer that an upper one deletes.
}

// TestRemote asks for layers that the root has, as containerd's unpacker does: nothing has to be unpacked.
func TestRemote(t *testing.T) {
	testutil.RequiresRoot(t)
	if os.Getenv(remoteVariable) == "" {
		t.Skipf("%s names no root that has layers", remoteVariable)
	}
	var image remoteRoot
	assert.NilError(t, json.Unmarshal([]byte(os.Getenv(remoteVariable)), &image))
	server, err := startServer(image.Root)
	assert.NilError(t, err)
	defer func() { assert.Check(t, server.stop()) }()
	database, err := openMetadata(filepath.Join(t.TempDir(), "metadata.db"), server)
	assert.NilError(t, err)
	defer database.close()
	sn := database.Snapshotter("suite")
	one := namespaces.WithNamespace(context.Background(), "one")
	two := namespaces.WithNamespace(context.Background(), "two")
	top := image.Chain[len(image.Chain)-1]

	// Two name spaces pull the image, one of them twice. Each name space has snapshots of its own of the same layers.
	for _, ctx := range []context.Context{one, two, one} {
		parent := ""
		for i, chain := range image.Chain {
			_, err := sn.Prepare(ctx, fmt.Sprintf("extract-%d %s", i, chain), parent, labels(snapshotRef, chain))
			assert.Assert(t, errdefs.IsAlreadyExists(err), "layer %d: %v", i, err)
			info, err := sn.Stat(ctx, chain)
			assert.NilError(t, err)
			assert.Equal(t, info.Kind, snapshots.KindCommitted)
			assert.Equal(t, info.Parent, parent)
			parent = chain
		}
	}

	// What the root has not, or has in another place only, is prepared to be unpacked.
	three := namespaces.WithNamespace(context.Background(), "three")
	_, err = sn.Prepare(three, "unknown", "", labels(snapshotRef, "sha256:"+strings.Repeat("0", 64)))
	assert.NilError(t, err)
	_, err = sn.Prepare(three, "of another parent", "", labels(snapshotRef, top))
	assert.NilError(t, err)

	// A container, and an image of what it has changed.
	mounts, err := sn.Prepare(one, "container", top)
	assert.NilError(t, err)
	within(t, mounts, func(path string) {
		image.verify(t, path)
		assert.NilError(t, os.WriteFile(filepath.Join(path, "written"), []byte("12345"), 0600))
	})
	usage, err := sn.Usage(one, "container")
	assert.NilError(t, err)
	assert.Assert(t, usage.Size >= 5 && usage.Inodes >= 1, "%+v", usage)

	// The server dies; what it has answered stays.
	server.kill()
	assert.NilError(t, server.launch())
	again, err := sn.Mounts(one, "container")
	assert.NilError(t, err)
	assert.Assert(t, reflect.DeepEqual(mounts, again), "%v, and before %v", again, mounts)
	assert.NilError(t, sn.Commit(one, "changed", "container"))
	mounts, err = sn.View(one, "look", "changed")
	assert.NilError(t, err)
	within(t, mounts, func(path string) {
		image.verify(t, path)
		content, err := os.ReadFile(filepath.Join(path, "written"))
		assert.NilError(t, err)
		assert.Equal(t, string(content), "12345")
		assert.Assert(t, os.WriteFile(filepath.Join(path, "written"), nil, 0600) != nil, "a view can be written to")
	})
	mounts, err = sn.View(two, "look", top)
	assert.NilError(t, err)
	within(t, mounts, func(path string) { image.verify(t, path) })

	// A layer that others need stays. Then everything goes, and the server has no snapshot left.
	err = sn.Remove(one, top)
	assert.Assert(t, errdefs.IsFailedPrecondition(err), "%v", err)
	for _, key := range []string{"look", "changed"} {
		assert.NilError(t, sn.Remove(one, key))
	}
	assert.NilError(t, sn.Remove(two, "look"))
	for _, key := range []string{"unknown", "of another parent"} {
		assert.NilError(t, sn.Remove(three, key))
	}
	for _, ctx := range []context.Context{one, two} {
		for i := len(image.Chain); i > 0; i-- {
			assert.NilError(t, sn.Remove(ctx, image.Chain[i-1]))
		}
	}
	_, err = database.GarbageCollect(context.Background())
	assert.NilError(t, err)
	assert.NilError(t, server.snapshotter().Walk(context.Background(), func(_ context.Context, info snapshots.Info) error {
		return fmt.Errorf("%s is left, with the parent %q", info.Name, info.Parent)
	}))
}

func labels(key, value string) snapshots.Opt {
	return snapshots.WithLabels(map[string]string{key: value})
}

// within mounts a snapshot for the length of a function.
func within(t *testing.T, mounts []mount.Mount, use func(path string)) {
	t.Helper()
	path := t.TempDir()
	assert.NilError(t, mount.All(mounts, path))
	defer testutil.Unmount(t, path)
	use(path)
}

// verify compares a tree with the image's files.
func (r *remoteRoot) verify(t *testing.T, path string) {
	t.Helper()
	for name, expected := range r.Files {
		content, err := os.ReadFile(filepath.Join(path, name))
		assert.NilError(t, err)
		assert.Equal(t, string(content), expected)
	}
	for _, name := range r.Absent {
		_, err := os.Lstat(filepath.Join(path, name))
		assert.Assert(t, os.IsNotExist(err), "%s: %v", name, err)
	}
}

package suite

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/namespaces"
	"github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"gotest.tools/v3/assert"
)

const (
	clients = 16
	rounds  = 12
)

// TestMany has many clients at work on one server, each on a branch of its own above one layer of all, while others
// list what there is. Each verifies what it wrote; two of them want each name, and one of the two gets it.
func TestMany(t *testing.T) {
	testutil.RequiresRoot(t)
	root := t.TempDir()
	server, err := startServer(filepath.Join(root, "s"))
	assert.NilError(t, err)
	defer func() { assert.Check(t, server.stop()) }()
	database, err := openMetadata(filepath.Join(root, "metadata.db"), server)
	assert.NilError(t, err)
	defer database.close()
	sn := database.Snapshotter("suite")
	ctx := namespaces.WithNamespace(context.Background(), "many")

	mounts, err := sn.Prepare(ctx, "base-active", "")
	assert.NilError(t, err)
	within(t, mounts, func(path string) {
		assert.NilError(t, os.WriteFile(filepath.Join(path, "of all"), []byte("base"), 0644))
	})
	assert.NilError(t, sn.Commit(ctx, "base", "base-active"))

	var group, built sync.WaitGroup
	built.Add(clients)
	won := make([]int, clients) // How many names each client got.
	errs := make(chan error, 2*clients)
	for i := 0; i < clients; i++ {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			var err error
			if won[i], err = branch(ctx, sn, i, filepath.Join(root, fmt.Sprint(i)), &built); err != nil {
				errs <- fmt.Errorf("client %d: %w", i, err)
			}
		}(i)
	}
	stop, listed := make(chan struct{}), make(chan error, 1)
	go func() { listed <- list(ctx, sn, stop) }()
	group.Wait()
	close(stop)
	assert.NilError(t, <-listed)
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	sum := 0
	for _, count := range won {
		sum += count
	}
	assert.Equal(t, sum, clients/2*rounds, "each name has one owner")
	assert.NilError(t, sn.Remove(ctx, "base"))
	_, err = database.GarbageCollect(context.Background())
	assert.NilError(t, err)
	assert.NilError(t, server.snapshotter().Walk(context.Background(), func(_ context.Context, info snapshots.Info) error {
		return fmt.Errorf("%s is left", info.Name)
	}))
}

// branch makes a chain of snapshots, verifies it in a view, and removes all of it after all clients have got so far. It
// returns how often it was the first to take a name that another client wants as well.
func branch(ctx context.Context, sn snapshots.Snapshotter, client int, directory string, built *sync.WaitGroup) (int, error) {
	won, parent, names := 0, "base", []string{}
	var once sync.Once
	defer once.Do(built.Done)
	if err := os.Mkdir(directory, 0755); err != nil {
		return 0, err
	}
	for round := 0; round < rounds; round++ {
		key := fmt.Sprintf("active %d/%d", client, round)
		mounts, err := sn.Prepare(ctx, key, parent)
		if err != nil {
			return won, err
		}
		if err := verify(mounts, directory, client, round, true); err != nil {
			return won, fmt.Errorf("%s: %w", key, err)
		}
		name := fmt.Sprintf("committed %d/%d", client/2, round)
		err = sn.Commit(ctx, name, key)
		if errdefs.IsAlreadyExists(err) { // The other client has it; a name of its own is free.
			name = fmt.Sprintf("second %d/%d", client, round)
			err = sn.Commit(ctx, name, key)
		} else if err == nil {
			won++
		}
		if err != nil {
			return won, err
		}
		names, parent = append(names, name), name
	}
	mounts, err := sn.View(ctx, fmt.Sprintf("view %d", client), parent)
	if err != nil {
		return won, err
	}
	if err := verify(mounts, directory, client, rounds, false); err != nil {
		return won, err
	}
	if err := sn.Remove(ctx, fmt.Sprintf("view %d", client)); err != nil {
		return won, err
	}
	once.Do(built.Done)
	built.Wait()
	for len(names) > 0 {
		if err := sn.Remove(ctx, names[len(names)-1]); err != nil {
			return won, err
		}
		names = names[:len(names)-1]
	}
	return won, nil
}

// verify mounts a snapshot, and reads what the rounds before have written; then it writes the file of this round.
func verify(mounts []mount.Mount, directory string, client, round int, write bool) (err error) {
	if err := mount.All(mounts, directory); err != nil {
		return err
	}
	defer func() {
		if failed := mount.UnmountAll(directory, 0); err == nil {
			err = failed
		}
	}()
	expected := map[string]string{"of all": "base"}
	for i := 0; i < round; i++ {
		expected[fmt.Sprint(i)] = fmt.Sprintf("client %d, round %d", client, i)
	}
	names, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	if len(names) != len(expected) {
		return fmt.Errorf("%v instead of the files %v", names, expected)
	}
	for name, content := range expected {
		if found, err := os.ReadFile(filepath.Join(directory, name)); err != nil || string(found) != content {
			return fmt.Errorf("%s: %q instead of %q (%v)", name, found, content, err)
		}
	}
	if write {
		return os.WriteFile(filepath.Join(directory, fmt.Sprint(round)), []byte(fmt.Sprintf("client %d, round %d", client, round)), 0644)
	}
	return nil
}

// list walks over all snapshots until the end, with a call for each that is listed.
func list(ctx context.Context, sn snapshots.Snapshotter, stop <-chan struct{}) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		err := sn.Walk(ctx, func(ctx context.Context, info snapshots.Info) error {
			if _, err := sn.Usage(ctx, info.Name); err != nil && !errdefs.IsNotFound(err) {
				return err
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

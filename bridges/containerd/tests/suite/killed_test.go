package suite

import (
	"context"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/errdefs"
	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/testsuite"
)

const (
	// Every call of this number has the server killed, and another one started.
	callsBetweenKills = 16
	// A kill within a call comes at a random time up to this one: most calls take a few milliseconds.
	longestDelay = 25 * time.Millisecond
)

// TestKilled has the server killed again and again, between two calls: what it has answered has to stay.
func TestKilled(t *testing.T) {
	testutil.RequiresRoot(t)
	testsuite.SnapshotterSuite(t, "killed", func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		return newKilled(root, false)
	})
}

// TestKilledWithin has it killed while it works on a call: afterwards the call has happened as a whole, or not at all.
func TestKilledWithin(t *testing.T) {
	testutil.RequiresRoot(t)
	testsuite.SnapshotterSuite(t, "within", func(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		return newKilled(root, true)
	})
}

func newKilled(root string, within bool) (snapshots.Snapshotter, func() error, error) {
	server, err := startServer(root)
	if err != nil {
		return nil, nil, err
	}
	return &killed{Snapshotter: server.snapshotter(), server: server, within: within}, server.stop, nil
}

// killed is a client that kills its server.
type killed struct {
	snapshots.Snapshotter
	server *server
	within bool

	mutex  sync.Mutex
	calls  int
	active int // A call that Walk's function makes is within Walk's own.
}

// begin is the start of each call. It returns whether the server is to be killed now.
func (k *killed) begin() bool {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.active++
	k.calls++
	if k.active > 1 || k.calls < callsBetweenKills {
		return false
	}
	k.calls = 0
	return true
}

func (k *killed) end() {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.active--
}

// do makes a call, with a kill before or within it if it is its turn. After a kill within the call, happened says
// whether the call has happened; if not, it is made again. Without happened it may be made twice.
func (k *killed) do(call func() error, happened func() (bool, error)) error {
	kill := k.begin()
	defer k.end()
	if !kill {
		return call()
	}
	if !k.within {
		k.server.kill()
		if err := k.server.launch(); err != nil {
			return err
		}
		return call()
	}
	killed := make(chan struct{})
	go func() {
		defer close(killed)
		time.Sleep(time.Duration(rand.Int63n(int64(longestDelay))))
		k.server.kill()
	}()
	err := call()
	<-killed
	if failed := k.server.launch(); failed != nil {
		return failed
	}
	if !errdefs.IsUnavailable(err) {
		return err
	}
	if happened != nil {
		if done, err := happened(); done || err != nil {
			return err
		}
	}
	return call()
}

// exists returns whether there is a snapshot.
func (k *killed) exists(ctx context.Context, key string) bool {
	_, err := k.Snapshotter.Stat(ctx, key)
	return err == nil
}

func (k *killed) Stat(ctx context.Context, key string) (info snapshots.Info, err error) {
	err = k.do(func() error { info, err = k.Snapshotter.Stat(ctx, key); return err }, nil)
	return info, err
}

func (k *killed) Update(ctx context.Context, info snapshots.Info, fieldpaths ...string) (updated snapshots.Info, err error) {
	err = k.do(func() error { updated, err = k.Snapshotter.Update(ctx, info, fieldpaths...); return err }, nil)
	return updated, err
}

func (k *killed) Usage(ctx context.Context, key string) (usage snapshots.Usage, err error) {
	err = k.do(func() error { usage, err = k.Snapshotter.Usage(ctx, key); return err }, nil)
	return usage, err
}

func (k *killed) Mounts(ctx context.Context, key string) (mounts []mount.Mount, err error) {
	err = k.do(func() error { mounts, err = k.Snapshotter.Mounts(ctx, key); return err }, nil)
	return mounts, err
}

func (k *killed) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) (mounts []mount.Mount, err error) {
	return k.create(ctx, key, func() error { mounts, err = k.Snapshotter.Prepare(ctx, key, parent, opts...); return err }, &mounts)
}

func (k *killed) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) (mounts []mount.Mount, err error) {
	return k.create(ctx, key, func() error { mounts, err = k.Snapshotter.View(ctx, key, parent, opts...); return err }, &mounts)
}

func (k *killed) create(ctx context.Context, key string, call func() error, mounts *[]mount.Mount) ([]mount.Mount, error) {
	before := k.exists(ctx, key)
	err := k.do(call, func() (bool, error) {
		if before || !k.exists(ctx, key) {
			return false, nil
		}
		var err error
		*mounts, err = k.Snapshotter.Mounts(ctx, key)
		return true, err
	})
	return *mounts, err
}

func (k *killed) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	before := k.exists(ctx, name) || !k.exists(ctx, key)
	return k.do(func() error { return k.Snapshotter.Commit(ctx, name, key, opts...) }, func() (bool, error) {
		committed, active := k.exists(ctx, name), k.exists(ctx, key)
		if !before && committed == active {
			return false, fmt.Errorf("after a kill in Commit: %q exists: %v, %q exists: %v", name, committed, key, active)
		}
		return !before && committed, nil
	})
}

func (k *killed) Remove(ctx context.Context, key string) error {
	before := k.exists(ctx, key)
	return k.do(func() error { return k.Snapshotter.Remove(ctx, key) }, func() (bool, error) {
		return before && !k.exists(ctx, key), nil
	})
}

// Walk is not killed within: its function may have been called already.
func (k *killed) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	if k.within {
		return k.Snapshotter.Walk(ctx, fn, filters...)
	}
	return k.do(func() error { return k.Snapshotter.Walk(ctx, fn, filters...) }, nil)
}

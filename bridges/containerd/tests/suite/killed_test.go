package suite

import (
	"context"
	"sync"
	"testing"

	"github.com/containerd/containerd/mount"
	"github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/testsuite"
)

// Before each call of this number the server is killed, and another one is started.
const callsBetweenKills = 8

// TestKilled has the server killed again and again, between two calls: what it has answered has to stay.
func TestKilled(t *testing.T) {
	testutil.RequiresRoot(t)
	testsuite.SnapshotterSuite(t, "killed", newKilled)
}

func newKilled(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	server, err := startServer(root)
	if err != nil {
		return nil, nil, err
	}
	return &killed{Snapshotter: server.snapshotter(), server: server}, server.stop, nil
}

// killed is a client that kills its server.
type killed struct {
	snapshots.Snapshotter
	server *server

	mutex  sync.Mutex
	calls  int
	active int // A call that Walk's function makes is within Walk's own.
}

// begin is the start of each call; it returns what ends the call.
func (k *killed) begin() (func(), error) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.calls++
	if k.active == 0 && k.calls >= callsBetweenKills {
		k.calls = 0
		k.server.kill()
		if err := k.server.launch(); err != nil {
			return nil, err
		}
	}
	k.active++
	return func() {
		k.mutex.Lock()
		defer k.mutex.Unlock()
		k.active--
	}, nil
}

func (k *killed) Stat(ctx context.Context, key string) (snapshots.Info, error) {
	end, err := k.begin()
	if err != nil {
		return snapshots.Info{}, err
	}
	defer end()
	return k.Snapshotter.Stat(ctx, key)
}

func (k *killed) Update(ctx context.Context, info snapshots.Info, fieldpaths ...string) (snapshots.Info, error) {
	end, err := k.begin()
	if err != nil {
		return snapshots.Info{}, err
	}
	defer end()
	return k.Snapshotter.Update(ctx, info, fieldpaths...)
}

func (k *killed) Usage(ctx context.Context, key string) (snapshots.Usage, error) {
	end, err := k.begin()
	if err != nil {
		return snapshots.Usage{}, err
	}
	defer end()
	return k.Snapshotter.Usage(ctx, key)
}

func (k *killed) Mounts(ctx context.Context, key string) ([]mount.Mount, error) {
	end, err := k.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	return k.Snapshotter.Mounts(ctx, key)
}

func (k *killed) Prepare(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	end, err := k.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	return k.Snapshotter.Prepare(ctx, key, parent, opts...)
}

func (k *killed) View(ctx context.Context, key, parent string, opts ...snapshots.Opt) ([]mount.Mount, error) {
	end, err := k.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	return k.Snapshotter.View(ctx, key, parent, opts...)
}

func (k *killed) Commit(ctx context.Context, name, key string, opts ...snapshots.Opt) error {
	end, err := k.begin()
	if err != nil {
		return err
	}
	defer end()
	return k.Snapshotter.Commit(ctx, name, key, opts...)
}

func (k *killed) Remove(ctx context.Context, key string) error {
	end, err := k.begin()
	if err != nil {
		return err
	}
	defer end()
	return k.Snapshotter.Remove(ctx, key)
}

func (k *killed) Walk(ctx context.Context, fn snapshots.WalkFunc, filters ...string) error {
	end, err := k.begin()
	if err != nil {
		return err
	}
	defer end()
	return k.Snapshotter.Walk(ctx, fn, filters...)
}

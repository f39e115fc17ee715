// Package suite runs containerd's own test suite of snapshotters over a server of snapshots.
package suite

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/metadata"
	"github.com/containerd/containerd/pkg/testutil"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/testsuite"
	bolt "go.etcd.io/bbolt"
)

// TestProxy talks to the server as containerd's proxy plugin does.
func TestProxy(t *testing.T) {
	testutil.RequiresRoot(t)
	testsuite.SnapshotterSuite(t, "proxy", newProxy)
}

// TestMetadata has containerd's database of names and name spaces between, as a containerd daemon has.
func TestMetadata(t *testing.T) {
	testutil.RequiresRoot(t)
	testsuite.SnapshotterSuite(t, "metadata", newMetadata)
}

func newProxy(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	server, err := startServer(root)
	if err != nil {
		return nil, nil, err
	}
	return server.snapshotter(), server.stop, nil
}

func newMetadata(_ context.Context, root string) (snapshots.Snapshotter, func() error, error) {
	server, err := startServer(filepath.Join(root, "s"))
	if err != nil {
		return nil, nil, err
	}
	database, err := openMetadata(filepath.Join(root, "metadata.db"), server)
	if err != nil {
		return nil, nil, fmt.Errorf("%v; %w", server.stop(), err)
	}
	cleanup := func() error {
		if err := database.close(); err != nil {
			return fmt.Errorf("%v; %w", server.stop(), err)
		}
		return server.stop()
	}
	return database.Snapshotter("suite"), cleanup, nil
}

// daemon is the part of a containerd daemon that keeps snapshots.
type daemon struct {
	*metadata.DB
	file *bolt.DB
}

func openMetadata(path string, server *server) (*daemon, error) {
	file, err := bolt.Open(path, 0600, nil)
	if err != nil {
		return nil, err
	}
	return &daemon{metadata.NewDB(file, nil, map[string]snapshots.Snapshotter{"suite": server.snapshotter()}), file}, nil
}

func (d *daemon) close() error {
	return d.file.Close()
}

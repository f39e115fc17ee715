package suite

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/contrib/snapshotservice"
	"github.com/containerd/containerd/snapshots/native"
	"google.golang.org/grpc"
)

// The control: containerd's own native snapshotter in another process, by the same way as any other server. What fails
// with it is the fault of this glue, or of the machine.
const controlVariable = "SUITE_CONTROL"

func controlCommand(root, address string) *exec.Cmd {
	command := exec.Command("/proc/self/exe")
	command.Env = append(os.Environ(), controlVariable+"="+root, controlVariable+"_ADDRESS="+address)
	return command
}

func TestMain(m *testing.M) {
	if root := os.Getenv(controlVariable); root != "" {
		if err := serveControl(root, os.Getenv(controlVariable+"_ADDRESS")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func serveControl(root, address string) error {
	snapshotter, err := native.NewSnapshotter(root)
	if err != nil {
		return err
	}
	os.Remove(address) // Of one that was killed.
	listener, err := net.Listen("unix", address)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	snapshotsapi.RegisterSnapshotsServer(server, snapshotservice.FromSnapshotter(snapshotter))
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { <-stop; server.Stop() }()
	return server.Serve(listener)
}

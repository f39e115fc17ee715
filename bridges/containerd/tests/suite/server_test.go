package suite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/snapshots"
	"github.com/containerd/containerd/snapshots/proxy"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

// Each variable is a JSON list: a command and its arguments, in which {root} and {address} are replaced.
const (
	// The server. With the list ["control"] the test binary itself serves containerd's own native snapshotter.
	serverVariable = "SUITE_SERVER"
	// A command that is run on the root after its server has ended. Its exit code has to be 0.
	checkVariable = "SUITE_CHECK"
)

// Many start at once on a machine that may be busy.
const startTimeout = 120 * time.Second

// server is a process that serves the snapshots of one root on a socket.
type server struct {
	root      string
	directory string // Of the socket: its path may have 107 bytes only.
	process   *exec.Cmd
	ended     chan error
	output    bytes.Buffer
	conn      *grpc.ClientConn
}

// startServer starts a server of root, waits until it listens, and connects to it.
func startServer(root string) (*server, error) {
	directory, err := os.MkdirTemp("/tmp", "layerstore-suite-")
	if err != nil {
		return nil, err
	}
	s := &server{root: root, directory: directory}
	if err := s.launch(); err != nil {
		os.RemoveAll(directory)
		return nil, err
	}
	// After a server was killed, the next call waits for the new one.
	s.conn, err = grpc.Dial("unix://"+s.address(), grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond,
			Multiplier: 1.5, MaxDelay: time.Second}, MinConnectTimeout: startTimeout}))
	if err != nil {
		s.kill()
		os.RemoveAll(directory)
		return nil, err
	}
	return s, nil
}

func (s *server) address() string {
	return filepath.Join(s.directory, "s.sock")
}

// snapshotter returns containerd's own client of the server.
func (s *server) snapshotter() snapshots.Snapshotter {
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(s.conn), "suite")
}

// launch starts the process, and returns when its socket takes connections.
func (s *server) launch() error {
	command, err := commandOf(serverVariable, s.root, s.address())
	if err != nil {
		return err
	}
	if command == nil {
		return fmt.Errorf("%s has to name a server", serverVariable)
	}
	if command.Args[0] == "control" {
		command = controlCommand(s.root, s.address())
	}
	command.Stdout, command.Stderr = &s.output, &s.output
	if err := command.Start(); err != nil {
		return err
	}
	s.process, s.ended = command, make(chan error, 1)
	go func() { s.ended <- command.Wait() }()
	for limit := time.Now().Add(startTimeout); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", s.address()); err == nil {
			conn.Close()
			return nil
		}
		select {
		case err := <-s.ended:
			return fmt.Errorf("the server ended before it listened (%v): %s", err, s.output.String())
		default:
		}
	}
	s.kill()
	return fmt.Errorf("the server does not listen after %v: %s", startTimeout, s.output.String())
}

// kill ends the process without giving it time for anything.
func (s *server) kill() {
	s.process.Process.Kill()
	<-s.ended
}

// stop asks the process to end. It demands exit code 0, no mount below the root, and a root in good order.
func (s *server) stop() error {
	defer os.RemoveAll(s.directory)
	s.conn.Close()
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.ended:
		if err != nil {
			return fmt.Errorf("the server's end: %w: %s", err, s.output.String())
		}
	case <-time.After(startTimeout):
		s.kill()
		return fmt.Errorf("the server does not end on SIGTERM: %s", s.output.String())
	}
	left, err := mountsBelow(s.root)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		return fmt.Errorf("the server left mounts: %s: %s", left, s.output.String())
	}
	check, err := commandOf(checkVariable, s.root, "")
	if err != nil || check == nil {
		return err
	}
	if output, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", check, err, output)
	}
	return nil
}

// commandOf returns the command that a variable names, nil if it is not set.
func commandOf(variable, root, address string) (*exec.Cmd, error) {
	value := os.Getenv(variable)
	if value == "" {
		return nil, nil
	}
	var words []string
	if err := json.Unmarshal([]byte(value), &words); err != nil || len(words) == 0 {
		return nil, fmt.Errorf("%s has to be a JSON list of words: %q", variable, value)
	}
	replace := strings.NewReplacer("{root}", root, "{address}", address)
	for i := range words {
		words[i] = replace.Replace(words[i])
	}
	return exec.Command(words[0], words[1:]...), nil
}

// mountsBelow returns the mount points below a directory, as the kernel lists them.
func mountsBelow(directory string) ([]string, error) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	var found []string
	for _, line := range strings.Split(string(data), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], directory+"/") {
			found = append(found, fields[4])
		}
	}
	return found, nil
}

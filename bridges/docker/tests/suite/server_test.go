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

	"github.com/docker/docker/daemon/graphdriver"
	"github.com/docker/docker/pkg/idtools"
	"github.com/docker/docker/pkg/plugingetter"
	"github.com/docker/docker/pkg/plugins"
)

// A JSON list: the command of the server and its arguments, in which {root} and {address} are replaced. With the
// list ["control"] the tests run over moby's own vfs driver, in this process.
const serverVariable = "SUITE_SERVER"

// Of the driver, for moby. No driver of moby has it.
const driverName = "layerstore"

// The one of the plugin, which moby looks up, as it has no driver of this name.
const pluginName = "layerstore-plugin"

const startTimeout = 120 * time.Second

func init() {
	// graphtest asks for a driver by its name, and gives no way to look up plugins. So this name leads to the plugin.
	if err := graphdriver.Register(driverName, open); err != nil {
		panic(err)
	}
}

// driver is moby's client of a graph driver plugin, with the server of its own.
type driver struct {
	graphdriver.Driver
	server *server
}

// open starts a server, and has moby connect to it as to a plugin.
func open(home string, options []string, uidMaps, gidMaps []idtools.IDMap) (graphdriver.Driver, error) {
	server, err := startServer(home)
	if err != nil {
		return nil, err
	}
	client, err := graphdriver.GetDriver(pluginName, server, graphdriver.Options{
		Root: home, DriverOptions: options, UIDMaps: uidMaps, GIDMaps: gidMaps, ExperimentalEnabled: true,
	})
	if err != nil {
		return nil, fmt.Errorf("%v; %w: %s", server.stop(), err, server.output.String())
	}
	if os.Getenv(killVariable) == "yes" {
		client = &killing{client, server, 0}
	}
	return &driver{client, server}, nil
}

// Cleanup ends the server, too. graphtest calls it once, at the end.
func (d *driver) Cleanup() error {
	if err := d.Driver.Cleanup(); err != nil {
		return fmt.Errorf("%v; %w", d.server.stop(), err)
	}
	return d.server.stop()
}

// server is a process that serves a driver on a socket. It is its own plugin, and the only one that moby finds.
type server struct {
	home      string
	directory string // Of the socket: its path may have 107 bytes only.
	process   *exec.Cmd
	ended     chan error
	output    bytes.Buffer
	client    *plugins.Client
}

// startServer starts a server, and waits until it listens.
func startServer(home string) (*server, error) {
	directory, err := os.MkdirTemp("/tmp", "layerstore-suite-")
	if err != nil {
		return nil, err
	}
	s := &server{home: home, directory: directory}
	if err := s.launch(); err != nil {
		os.RemoveAll(directory)
		return nil, err
	}
	return s, nil
}

func (s *server) launch() error {
	address := filepath.Join(s.directory, "s.sock")
	var words []string
	if err := json.Unmarshal([]byte(os.Getenv(serverVariable)), &words); err != nil || len(words) == 0 {
		return fmt.Errorf("%s has to be a JSON list of words: %q", serverVariable, os.Getenv(serverVariable))
	}
	replace := strings.NewReplacer("{root}", filepath.Join(s.home, "served"), "{address}", address)
	for i := range words {
		words[i] = replace.Replace(words[i])
	}
	s.process, s.ended = exec.Command(words[0], words[1:]...), make(chan error, 1)
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	if err := s.process.Start(); err != nil {
		return err
	}
	go func() { s.ended <- s.process.Wait() }()
	for limit := time.Now().Add(startTimeout); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		if conn, err := net.Dial("unix", address); err == nil {
			conn.Close()
			s.client, err = plugins.NewClient("unix://"+address, nil)
			return err
		}
		select {
		case err := <-s.ended:
			return fmt.Errorf("the server ended before it listened (%v): %s", err, s.output.String())
		default:
		}
	}
	s.process.Process.Kill()
	<-s.ended
	return fmt.Errorf("the server does not listen after %v: %s", startTimeout, s.output.String())
}

// stop asks the process to end. It demands exit code 0, and no mount below the driver's home.
func (s *server) stop() error {
	defer os.RemoveAll(s.directory)
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.ended:
		if err != nil {
			return fmt.Errorf("the server's end: %w: %s", err, s.output.String())
		}
	case <-time.After(startTimeout):
		s.process.Process.Kill()
		<-s.ended
		return fmt.Errorf("the server does not end on SIGTERM: %s", s.output.String())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], s.home+"/") {
			return fmt.Errorf("the server left a mount: %s: %s", fields[4], s.output.String())
		}
	}
	return nil
}

// What moby asks of a plugin, and of a list of plugins.

func (*server) Name() string { return pluginName }

func (*server) ScopedPath(path string) string { return path }

func (*server) IsV1() bool { return true }

func (s *server) Client() *plugins.Client { return s.client }

func (s *server) Get(string, string, int) (plugingetter.CompatPlugin, error) { return s, nil }

func (s *server) GetAllByCap(string) ([]plugingetter.CompatPlugin, error) {
	return []plugingetter.CompatPlugin{s}, nil
}

func (*server) GetAllManagedPluginsByCap(string) []plugingetter.CompatPlugin { return nil }

func (*server) Handle(string, func(string, *plugins.Client)) {}

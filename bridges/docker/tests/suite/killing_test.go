package suite

import (
	"io"

	"github.com/docker/docker/daemon/graphdriver"
	"github.com/docker/docker/pkg/archive"
	"github.com/docker/docker/pkg/containerfs"
)

// "yes" has the server killed before each call of this number, and another one started. Docker connects to that one
// without a word: it calls Init once, when the daemon starts.
const (
	killVariable      = "SUITE_KILL"
	callsBetweenKills = 16
)

// killing is a client that kills its server. One goroutine uses it.
type killing struct {
	graphdriver.Driver
	server *server
	calls  int
}

func (k *killing) begin() {
	k.calls++
	if k.calls < callsBetweenKills {
		return
	}
	k.calls = 0
	k.server.process.Process.Kill()
	<-k.server.ended
	if err := k.server.launch(); err != nil {
		panic(err)
	}
}

func (k *killing) Create(id, parent string, opts *graphdriver.CreateOpts) error {
	k.begin()
	return k.Driver.Create(id, parent, opts)
}

func (k *killing) CreateReadWrite(id, parent string, opts *graphdriver.CreateOpts) error {
	k.begin()
	return k.Driver.CreateReadWrite(id, parent, opts)
}

func (k *killing) Remove(id string) error {
	k.begin()
	return k.Driver.Remove(id)
}

func (k *killing) Get(id, mountLabel string) (containerfs.ContainerFS, error) {
	k.begin()
	return k.Driver.Get(id, mountLabel)
}

func (k *killing) Put(id string) error {
	k.begin()
	return k.Driver.Put(id)
}

func (k *killing) Exists(id string) bool {
	k.begin()
	return k.Driver.Exists(id)
}

func (k *killing) Diff(id, parent string) (io.ReadCloser, error) {
	k.begin()
	return k.Driver.Diff(id, parent)
}

func (k *killing) Changes(id, parent string) ([]archive.Change, error) {
	k.begin()
	return k.Driver.Changes(id, parent)
}

func (k *killing) ApplyDiff(id, parent string, diff io.Reader) (int64, error) {
	k.begin()
	return k.Driver.ApplyDiff(id, parent, diff)
}

func (k *killing) DiffSize(id, parent string) (int64, error) {
	k.begin()
	return k.Driver.DiffSize(id, parent)
}

// Package suite runs moby's own tests of graph drivers over a graph driver plugin.
package suite

import (
	"os"
	"testing"

	"github.com/docker/docker/daemon/graphdriver"
	"github.com/docker/docker/daemon/graphdriver/graphtest"
	_ "github.com/docker/docker/daemon/graphdriver/vfs"
	"github.com/docker/docker/pkg/reexec"
)

// Whether the driver can limit the size of a writable layer where the tests run: "yes" or "no".
const quotaVariable = "SUITE_QUOTA"

// name is the driver that the tests ask for. The control is moby's own vfs: what fails with it is the fault of this
// glue, or of the machine.
func name() string {
	if os.Getenv(serverVariable) == `["control"]` {
		return "vfs"
	}
	return driverName
}

func TestMain(m *testing.M) {
	// moby's own driver unpacks in another process, which is this program again.
	if reexec.Init() {
		return
	}
	os.Exit(m.Run())
}

// All tests between TestSetup and TestTeardown use one server.
func TestSetup(t *testing.T) {
	graphtest.GetDriver(t, name())
}

func TestCreateEmpty(t *testing.T) {
	graphtest.DriverTestCreateEmpty(t, name())
}

func TestCreateBase(t *testing.T) {
	graphtest.DriverTestCreateBase(t, name())
}

func TestCreateSnap(t *testing.T) {
	graphtest.DriverTestCreateSnap(t, name())
}

func TestDeepLayerRead128(t *testing.T) {
	graphtest.DriverTestDeepLayerRead(t, 128, name())
}

func TestDiffApply10Files(t *testing.T) {
	graphtest.DriverTestDiffApply(t, 10, name())
}

func TestDiffApply1000Files(t *testing.T) {
	graphtest.DriverTestDiffApply(t, 1000, name())
}

func TestChanges(t *testing.T) {
	graphtest.DriverTestChanges(t, name())
}

func TestSetQuota(t *testing.T) {
	if os.Getenv(quotaVariable) == "yes" {
		graphtest.DriverTestSetQuota(t, name(), true)
		return
	}
	// The error that makes graphtest skip cannot be told through the protocol.
	driver := graphtest.GetDriver(t, name())
	defer graphtest.PutDriver(t)
	options := &graphdriver.CreateOpts{StorageOpt: map[string]string{"size": "50M"}}
	err := driver.CreateReadWrite("limited", "", options)
	if err == nil {
		t.Fatal("a layer with a limit was created, where the driver is said to have none")
	}
	if driver.Exists("limited") {
		t.Fatalf("the refused layer exists (%v)", err)
	}
	t.Skipf("no limits here: %v", err)
}

func TestTeardown(t *testing.T) {
	graphtest.PutDriver(t)
}

// The benchmarks are scenarios of their own: they are run once each. Each has a server of its own.

func BenchmarkExists(b *testing.B) {
	graphtest.DriverBenchExists(b, name())
}

func BenchmarkGetEmpty(b *testing.B) {
	graphtest.DriverBenchGetEmpty(b, name())
}

func BenchmarkDiffBase(b *testing.B) {
	graphtest.DriverBenchDiffBase(b, name())
}

func BenchmarkDiffManyInUpper(b *testing.B) {
	graphtest.DriverBenchDiffN(b, 10, 3000, name())
}

func BenchmarkDiffManyInBottom(b *testing.B) {
	graphtest.DriverBenchDiffN(b, 3000, 10, name())
}

func BenchmarkDiffApply100(b *testing.B) {
	graphtest.DriverBenchDiffApplyN(b, 100, name())
}

func BenchmarkDeepLayerDiff20(b *testing.B) {
	graphtest.DriverBenchDeepLayerDiff(b, 20, name())
}

func BenchmarkDeepLayerRead20(b *testing.B) {
	graphtest.DriverBenchDeepLayerRead(b, 20, name())
}

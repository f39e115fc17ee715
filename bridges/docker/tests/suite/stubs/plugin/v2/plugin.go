// Package v2 has as much of moby's package for managed plugins as its graph drivers name. Debian leaves that one out.
// No plugin here is a managed one.
package v2

import (
	"github.com/docker/docker/api/types"
	"github.com/docker/docker/pkg/plugins"
)

// Plugin is a managed plugin.
type Plugin struct {
	PluginObj types.Plugin
}

func (p *Plugin) Name() string { return p.PluginObj.Name }

func (p *Plugin) ScopedPath(path string) string { return path }

func (p *Plugin) IsV1() bool { return false }

func (p *Plugin) Client() *plugins.Client { return nil }

package daemon

import (
	"fmt"
	"path/filepath"
	"runtime/debug"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/routing/identity"
)

// Where root's daemon lives unless told otherwise.
const (
	DefaultDir    = "/var/lib/scn"
	DefaultSocket = "/run/scn/scn.sock"
)

// maxSocketPath is what fits sockaddr_un (unix(7)).
const maxSocketPath = 107

// InitConfig says what node Init makes.
type InitConfig = node.InitConfig

// Init makes a node's directory and returns the node's ID.
func Init(dir string, cfg InitConfig) (identity.NodeID, error) { return node.Init(dir, cfg) }

// SocketOf returns the path of the control socket of the node in dir.
func SocketOf(dir string) (string, error) {
	s, err := ReadSettings(filepath.Join(dir, "scn.toml"))
	if err != nil {
		return "", err
	}
	return s.socket(dir)
}

func (s Settings) socket(dir string) (string, error) {
	path := s.Control.Socket
	switch {
	case path != "":
	case filepath.Clean(dir) == DefaultDir:
		path = DefaultSocket
	default:
		path = filepath.Join(dir, "scn.sock")
	}
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("control socket %s: a path of %d bytes, at most %d: set control.socket to a shorter one", path, len(path), maxSocketPath)
	}
	return path, nil
}

// version is set by the linker for releases.
var version string

// Version returns the version this binary was built as.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	revision, dirty := "", ""
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value[:min(12, len(s.Value))]
		case "vcs.modified":
			if s.Value == "true" {
				dirty = "+changes"
			}
		}
	}
	if revision == "" {
		return "devel"
	}
	return "devel-" + revision + dirty
}

package daemon

import (
	"errors"
	"fmt"
	"io"
	"time"

	"scn.alt/scn/daemon/node"
	"scn.alt/scn/naming/name"
)

// InspectSettings say how this node inspects providers.
type InspectSettings struct {
	// Parallel is how many visits are under way at once. Default 16.
	Parallel int64 `toml:"parallel" help:"most visits to providers at the same time"`
	// Days is how long is kept what was measured. Default 90.
	Days int64 `toml:"days" help:"days to keep what was measured of providers"`
	// Port is asked for at services that do not say what they offer. Default 80.
	Port int64 `toml:"port" help:"TCP port to visit at services that publish nothing to be checked"`
}

func defaultInspect() InspectSettings { return InspectSettings{Parallel: 16, Days: 90, Port: 80} }

// config is the node's configuration of inspecting. All faults are reported together.
func (s InspectSettings) config() (node.InspectConfig, error) {
	var errs []error
	between := func(key string, v, least, most int64) {
		if v < least || v > most {
			errs = append(errs, fmt.Errorf("inspect.%s: %d is not between %d and %d", key, v, least, most))
		}
	}
	between("parallel", s.Parallel, 1, 256)
	between("days", s.Days, 1, 3650)
	between("port", s.Port, 1, 65535)
	return node.InspectConfig{Parallel: int(s.Parallel), Retention: time.Duration(s.Days) * 24 * time.Hour, Port: uint16(s.Port)}, errors.Join(errs...)
}

// PublishContent makes the manifest of a file that all providers of a service serve, to
// be checked by anybody. The service's key must be in the directory.
func PublishContent(dir, service string, file io.Reader, port uint16, host, path string) ([]byte, error) {
	nm, err := name.Parse(service)
	if err != nil {
		return nil, err
	}
	d, err := node.OpenDirectory(dir)
	if err != nil {
		return nil, err
	}
	return d.PublishContent(nm, file, port, host, path, time.Now())
}

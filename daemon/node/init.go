package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"

	"scn.alt/scn/cashier"
	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/network"
)

// InitConfig says what node to make. Exactly one of NewNetwork and NetworkFile is
// set.
type InitConfig struct {
	// NewNetwork is the name of a network to found; the node becomes its
	// bootstrap node, authority and first relay.
	NewNetwork string
	// Credits is what the founding node's account begins with. Default: no money.
	Credits voucher.Amount
	// Advertise is the address others reach a founding node at.
	Advertise netip.AddrPort
	// NetworkFile is the network to join.
	NetworkFile []byte
	// Listen is the UDP address of the node. Default: every address, the port of
	// Advertise or DefaultPort.
	Listen netip.AddrPort
	// Mobile marks a node that moves often: it stores nothing for others.
	Mobile bool
}

// DefaultPort is the UDP port of a node unless it is told another; the DHT uses
// the one after it.
const DefaultPort = 47700

// ErrExists is returned for a directory that holds a node already.
var ErrExists = errors.New("a node lives here already")

// settings is the part of the settings file that init writes.
type settings struct {
	Listen    string   `toml:"listen,omitempty"`
	Advertise []string `toml:"advertise,omitempty"`
	Mobile    bool     `toml:"mobile,omitempty"`
	// Relay is written for the node that starts a network: all know where it is.
	Relay *relaySettings `toml:"relay,omitempty"`
}

type relaySettings struct {
	Enabled bool `toml:"enabled"`
}

// Init makes a node's directory: keys, network file and settings. It leaves
// nothing behind when it fails, and never overwrites a node.
func Init(path string, cfg InitConfig) (identity.NodeID, error) {
	if err := cfg.validate(); err != nil {
		return identity.NodeID{}, err
	}
	if _, err := os.Stat(filepath.Join(path, nodeKeyFile)); !errors.Is(err, fs.ErrNotExist) {
		return identity.NodeID{}, fmt.Errorf("%s: %w", path, ErrExists)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return identity.NodeID{}, err
	}
	d := Directory{path}
	id, err := d.fill(cfg)
	if err != nil {
		return identity.NodeID{}, errors.Join(err, os.Remove(d.join(nodeKeyFile)))
	}
	return id, nil
}

func (cfg InitConfig) validate() error {
	var errs []error
	if (cfg.NewNetwork == "") == (cfg.NetworkFile == nil) {
		errs = append(errs, errors.New("give either a new network's name or the file of a network to join"))
	}
	if cfg.NewNetwork != "" && (!cfg.Advertise.IsValid() || cfg.Advertise.Port() == 0 || cfg.Advertise.Addr().IsUnspecified()) {
		errs = append(errs, errors.New("a new network needs the address others reach this node at: --advertise IP:PORT"))
	}
	if limit := cashier.DefaultParameters().SupplyCap; cfg.Credits > limit {
		errs = append(errs, fmt.Errorf("an account begins with at most %s credits", limit))
	}
	if cfg.Credits > 0 && cfg.NewNetwork == "" {
		errs = append(errs, errors.New("only a new network's first account begins with credits"))
	}
	if cfg.NewNetwork != "" && cfg.Mobile {
		errs = append(errs, errors.New("the node that starts a network must stay where it is: it cannot be mobile"))
	}
	return errors.Join(errs...)
}

func (d Directory) fill(cfg InitConfig) (identity.NodeID, error) {
	// The node's key is written last: it is what makes the directory a node.
	accountKey, err := d.makeKey(accountKeyFile)
	if err != nil {
		return identity.NodeID{}, err
	}
	nodeKey, err := d.makeKey(nodeKeyFile + ".new")
	if err != nil {
		return identity.NodeID{}, err
	}
	file := cfg.NetworkFile
	if cfg.NewNetwork != "" {
		if file, err = d.found(cfg, nodeKey.Node(), accountKey.Account()); err != nil {
			return identity.NodeID{}, err
		}
	}
	if _, err := network.Parse(file); err != nil {
		return identity.NodeID{}, err
	}
	if err := d.WriteNetwork(file); err != nil {
		return identity.NodeID{}, err
	}
	if err := d.writeSettings(cfg); err != nil {
		return identity.NodeID{}, err
	}
	return nodeKey.Node(), os.Rename(d.join(nodeKeyFile+".new"), d.join(nodeKeyFile))
}

// found makes the founder's key and signs the network's first file.
func (d Directory) found(cfg InitConfig, self identity.NodeID, account identity.AccountID) ([]byte, error) {
	key, err := d.makeKey(networkKeyFile)
	if err != nil {
		return nil, err
	}
	f := network.File{
		ID: key.Network(), Header: []string{"The network " + cfg.NewNetwork + ". Give this file to whoever shall join; it holds no secret."}, Name: cfg.NewNetwork, Sequence: 1, Zone: "top",
		Bootstrap:   []network.Peer{{Node: self, Addresses: []netip.AddrPort{cfg.Advertise}}},
		Authorities: []identity.NodeID{self},
		Admission:   network.Open,
	}
	if cfg.Credits > 0 {
		f.Parameters = map[string]any{genesisParameter: account.String() + "=" + cfg.Credits.String()}
	}
	signed, err := f.Sign(key)
	return signed.Bytes(), err
}

func (d Directory) writeSettings(cfg InitConfig) error {
	var s settings
	listen := cfg.Listen
	if !listen.IsValid() {
		port := uint16(DefaultPort)
		if cfg.Advertise.IsValid() {
			port = cfg.Advertise.Port()
		}
		listen = netip.AddrPortFrom(netip.IPv6Unspecified(), port)
	}
	s.Listen = listen.String()
	if cfg.Advertise.IsValid() {
		s.Advertise = []string{cfg.Advertise.String()}
	}
	s.Mobile = cfg.Mobile
	if cfg.NewNetwork != "" {
		s.Relay = &relaySettings{Enabled: true}
	}
	b, err := toml.Marshal(s)
	if err != nil {
		return err
	}
	return d.write(settingsFile, append([]byte("# Settings of this node; \"scn up --help\" names every key.\n"), b...), 0o644)
}

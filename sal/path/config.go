package path

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/crypto/chacha20poly1305"

	"scn.alt/scn/routing/identity"
)

// Constants of the protocol.
const (
	// Type is the first byte of a path message.
	Type = 0x01
	// SecretLabel is the TLS exporter label the secret comes from (context nil).
	SecretLabel = "EXPORTER-scn-path-v1"
	// SecretSize is how many bytes are exported.
	SecretSize = 32
	// MaxLocators is how many addresses are told to a peer and believed of one.
	MaxLocators = 8
	// NoteInterval is how often, at most, Traffic needs to be told.
	NoteInterval = 25 * time.Millisecond
)

// Config describes one end of an association.
type Config struct {
	// Initiator is set at the end that dialled. Exactly one end has it.
	Initiator bool
	// Secret is exported from the QUIC handshake: SecretSize bytes, the same at
	// both ends. The machine keeps no reference to it.
	Secret []byte
	// Seed makes the nonces; it must be unpredictable to the peer (crypto/rand).
	Seed [32]byte
	// Start is the time now. Required.
	Start time.Time
	// First is the route the handshake went over. Required. It counts as proved.
	First Route
	// Links are the local addresses usable now. First's is added if missing.
	Links []Link
	// Costs are those of Links, in the same order; what is missing is [CostNone].
	Costs []uint8
	// Locators are our own addresses to tell the peer, Relays those at which we can
	// be reached.
	Locators []netip.AddrPort
	Relays   []identity.NodeID
	// Remotes are the peer's addresses known so far, [RelayRemote] of relays among
	// them. First's is added.
	Remotes []netip.AddrPort

	// KeepAlive is the interval of keep-alives while sessions are open, short
	// enough for the NAT mappings of UDP (RFC 4787 demands 2 min, many have 30 s).
	// Default 25s; at least 1s.
	KeepAlive time.Duration
	// DeathTimeout is how long the machine looks for a path while sessions are
	// open. Default 15m; at least 1s.
	DeathTimeout time.Duration
	// IdleTimeout is the same without sessions. Default 60s; at least 1s.
	IdleTimeout time.Duration

	// Scratch is memory for one step, shared by machines that one goroutine makes and
	// steps. Default: memory of its own.
	Scratch *Scratch

	// without takes guards out, so that the simulator can show that it would
	// notice.
	without guards
}

// Scratch holds the plaintext of one message and the nonce it was sealed with.
type Scratch struct {
	plain [maxDatagram]byte
	nonce [chacha20poly1305.NonceSize]byte
}

// guards are the protections that tests can remove one by one.
type guards struct {
	replayWindow, challenge, budget, tieBreak bool
}

func (c Config) withDefaults() Config {
	if c.KeepAlive == 0 {
		c.KeepAlive = 25 * time.Second
	}
	if c.DeathTimeout == 0 {
		c.DeathTimeout = 15 * time.Minute
	}
	if c.IdleTimeout == 0 {
		c.IdleTimeout = time.Minute
	}
	if c.Scratch == nil {
		c.Scratch = new(Scratch)
	}
	return c
}

// Validate reports all that is wrong with c.
func (c Config) Validate() error {
	c = c.withDefaults()
	var errs []error
	if len(c.Secret) != SecretSize {
		errs = append(errs, fmt.Errorf("path: secret has %d bytes, want %d", len(c.Secret), SecretSize))
	}
	if c.Start.IsZero() {
		errs = append(errs, errors.New("path: start time missing"))
	}
	if !usableRemote(c.First.normal().Remote) {
		errs = append(errs, fmt.Errorf("path: first route has remote %s", c.First.Remote))
	}
	for _, t := range []struct {
		name string
		d    time.Duration
	}{{"keep-alive interval", c.KeepAlive}, {"death timeout", c.DeathTimeout}, {"idle timeout", c.IdleTimeout}} {
		if t.d < time.Second {
			errs = append(errs, fmt.Errorf("path: %s of %v is less than 1s", t.name, t.d))
		}
	}
	return errors.Join(errs...)
}

package sal

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base32"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/quic-go/quic-go"

	"scn.alt/scn/routing/identity"
)

// Labels of everything derived from a key.
const (
	resetLabel   = "scn/1 stateless reset"
	tokenLabel   = "scn/1 retry token"
	relayLabel   = "scn/1 relay tokens"
	sessionLabel = "EXPORTER-scn-session-v1"
)

// identityError is returned in a handshake whose peer has not the key that was
// dialled.
type identityError struct{ want, got identity.NodeID }

func (e *identityError) Error() string {
	return fmt.Sprintf("sal: dialled node %s, found %s", e.want.Short(), e.got.Short())
}

// Is makes it ErrIdentity.
func (e *identityError) Is(target error) bool { return target == ErrIdentity }

var errCertificate = errors.New("sal: the peer's certificate is not one Ed25519 key")

// deriveKey derives a 32-byte secret from the node's key, so that a restarted
// node has the same one: stateless resets must still be understood.
func deriveKey(key identity.PrivateKey, label string) ([32]byte, error) {
	b, err := hkdf.Key(sha256.New, key.Ed25519().Seed(), nil, label, 32)
	if err != nil {
		return [32]byte{}, fmt.Errorf("derive %q: %w", label, err)
	}
	return [32]byte(b), nil
}

// protocolName is the ALPN of a network: nodes of different networks refuse one
// another in the handshake. The network is hashed, since ALPN is readable on the
// wire.
func protocolName(network identity.NetworkID) string {
	sum := sha256.Sum256(append([]byte("scn/1 network\x00"), network[:]...))
	return "scn/1 " + base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:15])
}

// certificate makes the certificate of a node key. Nothing in it but the key is
// looked at; its dates span everything because nothing here expires by surprise.
func certificate(key identity.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "scn"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		KeyUsage:     x509.KeyUsageDigitalSignature,
	}
	private := key.Ed25519()
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, nil
}

// peerID returns the node at the other end: the public key its handshake was
// signed with.
func peerID(state tls.ConnectionState) (identity.NodeID, error) {
	if len(state.PeerCertificates) != 1 {
		return identity.NodeID{}, errCertificate
	}
	key, ok := state.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != identity.Size {
		return identity.NodeID{}, errCertificate
	}
	return identity.NodeID(key), nil
}

// baseTLS is what both sides of a connection have in common: TLS 1.3 alone, no
// resumption (a ticket would outlive an exclusion), no authority.
func baseTLS(cert tls.Certificate, network identity.NetworkID) *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{cert},
		NextProtos:             []string{protocolName(network)},
		MinVersion:             tls.VersionTLS13,
		SessionTicketsDisabled: true,
		ServerName:             "scn",
		InsecureSkipVerify:     true, // No authority: VerifyConnection pins the key.
		ClientAuth:             tls.RequireAnyClientCert,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := peerID(state)
			return err
		},
	}
}

// dialTLS returns base for a dial to one node, and to no other.
func dialTLS(base *tls.Config, node identity.NodeID) *tls.Config {
	config := base.Clone()
	config.VerifyConnection = func(state tls.ConnectionState) error {
		got, err := peerID(state)
		if err != nil {
			return err
		}
		if got != node {
			return &identityError{want: node, got: got}
		}
		return nil
	}
	return config
}

// quicConfig returns the settings of every connection.
func quicConfig(cfg Config) *quic.Config {
	return &quic.Config{
		Versions:             []quic.Version{quic.Version1},
		HandshakeIdleTimeout: cfg.HandshakeTimeout / 2,
		// The underlay decides when a peer is dead; this must be later than that.
		MaxIdleTimeout: 30 * time.Minute,
		// A PING where nothing came for a while: the stateless reset of a restarted
		// peer answers it, and NATs keep their mapping.
		KeepAlivePeriod:            25 * time.Second,
		InitialStreamReceiveWindow: uint64(cfg.InitialWindow),
		MaxStreamReceiveWindow:     uint64(cfg.MaxWindow),
		// Out of reach: readers that stop would freeze every session of the pair
		// otherwise. The streams' windows and the memory budget are the limit.
		InitialConnectionReceiveWindow: 1 << 60,
		MaxConnectionReceiveWindow:     1 << 60,
		MaxIncomingStreams:             int64(cfg.MaxSessionsPerPeer),
		MaxIncomingUniStreams:          4,
		EnableDatagrams:                true,
		// The path MTU belongs to the underlay.
		InitialPacketSize:       1400,
		DisablePathMTUDiscovery: true,
	}
}

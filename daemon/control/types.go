package control

import (
	"net/netip"
	"time"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Status is the state of a running daemon.
type Status struct {
	NodeID identity.NodeID `json:"node_id"`
	// AccountID owns this node's names on the ledger.
	AccountID identity.AccountID `json:"account_id"`
	Network   Network            `json:"network"`
	Version   string             `json:"version"`
	// Uptime is how long the daemon has been ready, in seconds.
	Uptime   float64          `json:"uptime_seconds"`
	Listen   string           `json:"listen"`
	Locators []netip.AddrPort `json:"locators"`
	DHT      DHT              `json:"dht"`
	Gateway  *Gateway         `json:"gateway,omitempty"`
	TUN      *TUN             `json:"tun"`
	DNS      *DNS             `json:"dns"`
	// ClockOffset is how far this host's clock is behind its peers', in seconds;
	// ClockSamples says how many peers told.
	ClockOffset  float64 `json:"clock_offset_seconds"`
	ClockSamples int     `json:"clock_samples"`
	// Mapped are ports that the router in front of this host lets in, as it says.
	Mapped []MappedPort `json:"mapped,omitempty"`
	// NAT is unknown, none, cone (every peer sees the same address) or symmetric.
	NAT string `json:"nat"`
	// Relays are where this node is registered, its home relays first.
	Relays []Relay `json:"relays"`
	// Relay is set where this node is a relay itself.
	Relay    *Relaying `json:"relay,omitempty"`
	Services []Service `json:"services"`
	// Names are those of this node's account, as far as it asked lately, Pending those
	// being registered.
	Names   []HeldName    `json:"names,omitempty"`
	Pending []PendingName `json:"pending_names,omitempty"`
	Peers   []Peer        `json:"peers"`
	// Pay is how paying and earning go; nil where there is none.
	Pay *Pay `json:"pay,omitempty"`
	// Warnings are what the operator should look at.
	Warnings []string `json:"warnings,omitempty"`
}

// Relay is one relay at which a node is registered.
type Relay struct {
	NodeID identity.NodeID `json:"node_id"`
	// Home relays are published; the others are those of peers.
	Home bool `json:"home"`
	// State is registering, well, silent or lossy.
	State string  `json:"state"`
	RTTMS float64 `json:"rtt_ms"`
	// Since is when the node registered.
	Since *time.Time `json:"since"`
}

// Relaying is what a node does as a relay.
type Relaying struct {
	Registrations  int    `json:"registrations"`
	Forwarded      uint64 `json:"forwarded"`
	ForwardedBytes uint64 `json:"forwarded_bytes"`
	Refused        uint64 `json:"refused"`
	// Dropped counts datagrams that were not forwarded, by reason.
	Dropped RelayDrops `json:"dropped"`
}

// RelayDrops counts datagrams that a relay did not forward: of nobody registered, with
// a token from a wrong address, to nobody registered, above the quota of one or of
// all, because the host was busy, or for want of a route.
type RelayDrops struct {
	Stranger  uint64 `json:"stranger"`
	Spoofed   uint64 `json:"spoofed"`
	Unknown   uint64 `json:"unknown"`
	OverNode  uint64 `json:"over_node"`
	OverTotal uint64 `json:"over_total"`
	Busy      uint64 `json:"busy"`
	NoRoute   uint64 `json:"no_route"`
}

// Sum is all of them together.
func (d RelayDrops) Sum() uint64 {
	return d.Stranger + d.Spoofed + d.Unknown + d.OverNode + d.OverTotal + d.Busy + d.NoRoute
}

// Network is the network a node belongs to.
type Network struct {
	ID          identity.NetworkID `json:"id"`
	Name        string             `json:"name"`
	Zone        string             `json:"zone"`
	Sequence    uint64             `json:"sequence"`
	Admission   string             `json:"admission"`
	Authority   bool               `json:"authority"`
	Members     []identity.NodeID  `json:"members,omitempty"`
	Bootstrap   []NetworkPeer      `json:"bootstrap,omitempty"`
	Authorities []identity.NodeID  `json:"authorities,omitempty"`
	// Parameters are bools, numbers and strings.
	Parameters map[string]any `json:"parameters,omitempty"`
	File       string         `json:"file,omitempty"`
}

// NetworkPeer is a node whose addresses stand in the network file.
type NetworkPeer struct {
	Node      identity.NodeID  `json:"node_id"`
	Addresses []netip.AddrPort `json:"addresses"`
}

// DHT is the state of the routing layer.
type DHT struct {
	Mode  string `json:"mode"`
	Peers int    `json:"peers"`
}

// TUN is the state of the edge.
type TUN struct {
	Name string     `json:"name"`
	IPv4 netip.Addr `json:"ipv4"`
	IPv6 netip.Addr `json:"ipv6"`
}

// DNS is the state of the local DNS server.
type DNS struct {
	Listen []string `json:"listen"`
	// OS is how the operating system was told: resolved, resolvconf, file or off.
	OS        string   `json:"os"`
	Upstreams []string `json:"upstreams"`
}

// Peer is one connected node.
type Peer struct {
	NodeID        identity.NodeID `json:"node_id"`
	Path          Path            `json:"path"`
	Sessions      int             `json:"sessions"`
	Moves         uint64          `json:"moves"`
	LastGapMS     float64         `json:"last_gap_ms"`
	BytesSent     uint64          `json:"bytes_sent"`
	BytesReceived uint64          `json:"bytes_received"`
}

// Path is the way packets to a peer take now.
type Path struct {
	// Way is direct, relayed or tunnelled (through TCP).
	Way string `json:"way"`
	// Relay forwards on a relayed path.
	Relay *identity.NodeID `json:"relay,omitempty"`
	// Why says in words why the path is the one it is.
	Why string `json:"why"`
	// Local and Remote are the ends; a relayed path has none that mean anything.
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
	RTTMS  float64        `json:"rtt_ms"`
	MTU    int            `json:"mtu"`
}

// The ways of a path.
const (
	Direct    = "direct"
	Relayed   = "relayed"
	Tunnelled = "tunnelled"
)

// Service is one service this node provides.
type Service struct {
	Name    string             `json:"name"`
	ID      identity.ServiceID `json:"service_id"`
	Targets []string           `json:"targets"`
	// Allow is whom the rules allow, or ask about, on some port.
	Allow    []string `json:"allow"`
	Priority uint16   `json:"priority"`
	Weight   uint16   `json:"weight"`
	// Owned says that this node holds the service's key, not just a grant.
	Owned         bool `json:"owned"`
	ProxyProtocol bool `json:"proxy_protocol,omitempty"`
	// State is "online", or why it is not yet.
	State    string `json:"state"`
	Sessions int    `json:"sessions"`
	// Draining services take no new sessions.
	Draining bool `json:"draining,omitempty"`
	// Health is what the service's check found; nil without a check.
	Health *Health `json:"health,omitempty"`
}

// ServeRequest asks the daemon to provide a service from now on.
type ServeRequest struct {
	Name string `json:"name"`
	// Targets are [PORT=]tcp://HOST:PORT, udp://HOST:PORT or PORT=unix:///PATH.
	Targets []string `json:"targets"`
	// Allow lists whom the service's rules shall allow on every port: "all", node IDs,
	// account:ID or group:NAME. Empty: the rules stay as they are.
	Allow         []string `json:"allow"`
	Priority      *uint16  `json:"priority,omitempty"`
	Weight        *uint16  `json:"weight,omitempty"`
	ProxyProtocol bool     `json:"proxy_protocol,omitempty"`
	// Check tells whether the targets work: tcp, http:/path, exec:COMMAND; "" for none.
	Check         string `json:"check,omitempty"`
	CheckInterval string `json:"check_interval,omitempty"`
	CheckRise     int    `json:"check_rise,omitempty"`
	CheckFall     int    `json:"check_fall,omitempty"`
}

// NameRequest names a service, and a node or account where the call takes one.
type NameRequest struct {
	Name     string              `json:"name"`
	Node     *identity.NodeID    `json:"node_id,omitempty"`
	Account  *identity.AccountID `json:"account_id,omitempty"`
	Service  *identity.ServiceID `json:"service_id,omitempty"`
	Priority uint16              `json:"priority,omitempty"`
	Weight   *uint16             `json:"weight,omitempty"`
	// Years is for how long a name is registered or renewed, 0 for the usual time: as
	// long as possible while it costs nothing, else a year.
	Years int `json:"years,omitempty"`
}

// Lookup is what is known of a name or service ID.
type Lookup struct {
	Name      string             `json:"name,omitempty"`
	ServiceID identity.ServiceID `json:"service_id"`
	IPv4      *netip.Addr        `json:"ipv4"`
	IPv6      *netip.Addr        `json:"ipv6"`
	Ports     []record.Port      `json:"ports,omitempty"`
	Providers []Provider         `json:"providers"`
	// Source says where the name came from: id, petname, cache, dht or authority.
	Source string `json:"source"`
	// AgeSeconds is how long ago the answer was learnt.
	AgeSeconds float64 `json:"age_seconds"`
	// Expired says that the name is paid for no more, and resolves a while longer.
	Expired bool `json:"expired,omitempty"`
	// Proof is of the ledger's word on the name; nil for IDs and petnames, and where
	// Unproved says why.
	Proof    *Proof `json:"proof,omitempty"`
	Unproved string `json:"unproved,omitempty"`
	// Wrong are the answers of nodes that differ from what was proved. Right after a change
	// a node may just not have heard of it; a forged record is a lie.
	Wrong []WrongAnswer `json:"wrong,omitempty"`
}

// Proof says under which checkpoint of the ledger an answer was proved.
type Proof struct {
	Height  uint64    `json:"height"`
	Block   string    `json:"block"`
	AppHash string    `json:"app_hash"`
	Signed  time.Time `json:"signed"`
	// AgeSeconds is how long ago it was signed.
	AgeSeconds float64 `json:"age_seconds"`
}

// WrongAnswer is of a node that answers what is not so.
type WrongAnswer struct {
	NodeID identity.NodeID `json:"node_id"`
	What   string          `json:"what"`
}

// Provider is one node that may provide a service.
type Provider struct {
	NodeID identity.NodeID `json:"node_id"`
	// Score is how it stands on the ledger; nil: not inspected, or not known yet.
	Score    *Score           `json:"score,omitempty"`
	Locators []netip.AddrPort `json:"locators"`
	// Relays forward to the node.
	Relays   []identity.NodeID `json:"relays,omitempty"`
	Priority uint16            `json:"priority"`
	Weight   uint16            `json:"weight"`
	Sequence uint64            `json:"sequence"`
	Expires  *time.Time        `json:"expires"`
	Source   string            `json:"source"`
}

// Name is the ledger's word on a name.
type Name struct {
	Name       string             `json:"name"`
	Registered bool               `json:"registered"`
	Service    identity.ServiceID `json:"service_id"`
	Owner      identity.AccountID `json:"owner"`
	Mine       bool               `json:"mine"`
	Sequence   uint64             `json:"sequence"`
	Height     uint64             `json:"height"`
	// Expires is until when the record is valid; it is renewed by itself.
	Expires *time.Time `json:"expires,omitempty"`
	// Lease is until when the name is paid for, State held, expired (it still
	// resolves), suspended (its owner may renew it) or free.
	Lease *time.Time `json:"lease_until,omitempty"`
	State string     `json:"state"`
	// Pending is set while this node is registering the name, or failed to lately.
	Pending *PendingName `json:"pending,omitempty"`
	Source  string       `json:"source"`
}

// PendingName is a name being registered.
type PendingName struct {
	Name  string    `json:"name"`
	Since time.Time `json:"since"`
	// Ready is when it can be had, as far as is known.
	Ready *time.Time `json:"ready,omitempty"`
	Fault string     `json:"fault,omitempty"`
	// Over says that it failed, and is not tried again.
	Over bool `json:"over,omitempty"`
}

// HeldName is a name of this node's account.
type HeldName struct {
	Name  string    `json:"name"`
	Lease time.Time `json:"lease_until"`
	State string    `json:"state"`
	// Fault is why it could not be renewed.
	Fault string `json:"fault,omitempty"`
}

// Ping is one overlay round trip.
type Ping struct {
	NodeID identity.NodeID `json:"node_id"`
	RTTMS  float64         `json:"rtt_ms"`
}

// ParameterRequest asks for a change of a parameter of the network.
type ParameterRequest struct {
	Name string `json:"name"`
	// Value is the text of a bool, a number or anything else, as the parameter needs;
	// empty for the parameter's default.
	Value string `json:"value"`
}

// MappedPort is a UDP port of this host that a router lets in.
type MappedPort struct {
	Port     uint16         `json:"port"`
	Outside  netip.AddrPort `json:"outside"`
	Protocol string         `json:"protocol"`
}

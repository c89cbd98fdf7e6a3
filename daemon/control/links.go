package control

import (
	"context"
	"net/netip"
)

// Link is one network interface of the daemon's host.
type Link struct {
	Interface string       `json:"interface"`
	Addresses []netip.Addr `json:"addresses"`
	// Policy is prefer, none, metered, backup or off, Source who said so.
	Policy string `json:"policy"`
	Source string `json:"source"`
	// State is "in use", "standby" or "unused", Why the reason where there is one.
	State string `json:"state"`
	Why   string `json:"why,omitempty"`
	// Ignored is set for containers', VPNs' and the daemon's own.
	Ignored bool `json:"ignored,omitempty"`
	// Peers is how many peers' data it carries.
	Peers         int     `json:"peers"`
	RTTMS         float64 `json:"rtt_ms"`
	BytesSent     uint64  `json:"bytes_sent"`
	BytesReceived uint64  `json:"bytes_received"`
}

// LinkRequest sets the policy of one link: a policy's name, or "settings" to have
// the settings decide again.
type LinkRequest struct {
	Interface string `json:"interface"`
	Policy    string `json:"policy"`
}

// Links returns the host's links.
func (c *Client) Links(ctx context.Context) (v []Link, err error) {
	return v, c.get(ctx, "links", nil, &v)
}

// SetLink sets the policy of a link.
func (c *Client) SetLink(ctx context.Context, q LinkRequest) error {
	return c.post(ctx, "link", q, nil)
}

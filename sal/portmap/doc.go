// Package portmap asks the router in front of this host to let UDP in: by PCP (RFC
// 6887), NAT-PMP (RFC 6886) or UPnP (Internet Gateway Device), whichever it speaks.
//
// A Mapper finds the gateways of the IPv4 default routes, maps the ports it was
// given at the first protocol that answers, renews the mappings at half of their
// life, and takes them back when it ends or the gateway is another one:
//
//	          ┌───────── Kick, gateway changed ─────────┐
//	          ▼                                         │
//	look for gateways ──► PCP ──► NAT-PMP ──► UPnP ──► mapped ──┐
//	          ▲                     │                   ▲       │ half of the life
//	          └──── back-off ◄── nobody                 └───────┘
//
// What the router says is taken for a hint and no more: an outside address is handed
// on only when it is one that others could dial, and those probe it before they use
// it. A router can name somebody else's address; so can any node, and nobody sends
// more than a few small packets there. Answers are accepted from the gateway alone,
// are bounded in size and number, and UPnP's descriptions are fetched from no other
// host than the gateway.
//
// It maps nothing on IPv6, where a router at most filters, and does nothing about
// a second NAT further out.
package portmap

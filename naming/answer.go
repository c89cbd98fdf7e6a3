package naming

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"scn.alt/scn/naming/message"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// Extended error codes used here (RFC 8914 §4).
const (
	edeOther       = 0
	edeStale       = 3
	edeUnreachable = 22
	edeNetwork     = 23
)

// serverLabel is the host name of this very server below scn.alt: too short to be
// anybody's name.
const serverLabel = "ns"

// keyService is the SvcParamKey that tells aware clients the service ID, from the
// range for private use (RFC 9460 §14.3.1).
const keyService dns.SVCBKey = 65400

// outcome is what becomes of a question.
type outcome struct {
	// msg is our own answer, nil when the question goes upstream or is refused.
	msg *dns.Msg
	// forward says that the question goes upstream.
	forward bool
	ede     message.Error
	// fresh and stale say how long the answer may be given again.
	fresh, stale time.Duration
}

// question is one under way.
type question struct {
	name   string // as asked, with final dot
	labels []string
	typ    uint16
}

// own returns our answer to a question of class IN, or that it goes upstream.
func (s *Server) own(ctx context.Context, q question) outcome {
	if addr, bits, ok := parseReverse(q.labels); ok {
		if zone, ok := s.reverseZone(addr, bits); ok {
			return s.pointer(q, addr, bits, zone)
		}
		return outcome{forward: true}
	}
	p := locate(q.labels, s.names.Zone())
	switch {
	case p.zone == "":
		return outcome{forward: true}
	case p.label == "":
		return s.apex(q, p.zone)
	case p.zone == Alt && p.label == serverLabel && len(p.sub) == 0:
		return s.self(q)
	}
	r, err := s.names.resolve(ctx, p)
	switch {
	case err == nil:
		return s.service(ctx, q, p, r)
	case errors.Is(err, ErrOutside), errors.Is(err, ErrUnknown), errors.Is(err, ErrNotRegistered) && p.zone != Alt:
		return outcome{forward: true}
	case errors.Is(err, ErrUnavailable):
		return s.failure(q, edeUnreachable, err)
	case errors.Is(err, ErrBusy):
		return s.failure(q, edeOther, err)
	}
	return s.negative(q, dns.RcodeNameError, p.zone, err)
}

// service answers a question about a service found.
func (s *Server) service(ctx context.Context, q question, p place, r Resolution) outcome {
	s.remember(r, p.zone)
	if len(p.sub) > 0 && strings.HasPrefix(p.sub[0], "_") {
		return s.attribute(ctx, q, p, r)
	}
	switch q.typ {
	case dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeSVCB:
	case dns.TypeTXT:
		// The ID is known without a record; ports and providers only with one.
		info, _ := s.lookup(ctx, r.Service)
		return s.positive(q, r, s.text(q, r, info))
	case dns.TypeANY:
		return s.positive(q, r, &dns.HINFO{Hdr: s.header(q.name, dns.TypeHINFO), Cpu: "RFC8482"})
	default:
		return s.empty(q, p.zone, r)
	}
	info, err := s.lookup(ctx, r.Service)
	if err != nil {
		return s.unlisted(q, p.zone, err)
	}
	v4, v6, err := s.addresses.Assign(ctx, r.Service)
	if err != nil {
		return s.failure(q, edeOther, fmt.Errorf("no virtual address: %w", err))
	}
	var rr dns.RR
	switch {
	case q.typ == dns.TypeA && v4.IsValid():
		rr = &dns.A{Hdr: s.header(q.name, q.typ), A: v4.Unmap().AsSlice()}
	case q.typ == dns.TypeAAAA && v6.IsValid():
		rr = &dns.AAAA{Hdr: s.header(q.name, q.typ), AAAA: v6.AsSlice()}
	case q.typ == dns.TypeHTTPS && slices.Contains(info.Ports, record.Port{Number: 443, Protocol: record.TCP}):
		// Without port 443 there must be no HTTPS record: it makes browsers turn
		// http:// into https:// (RFC 9460 §9.5).
		rr = &dns.HTTPS{SVCB: s.binding(q, ".", 443, info, v4, v6, r.Service)}
	case q.typ == dns.TypeSVCB:
		binding := s.binding(q, ".", 0, Service{}, v4, v6, r.Service)
		rr = &binding
	}
	if rr == nil {
		return s.empty(q, p.zone, r)
	}
	return s.positive(q, r, rr)
}

// attribute answers a question about an underscored name below a service's:
// _port._tcp for SRV (RFC 2782), _port._https for HTTPS (RFC 9460 §2.3).
func (s *Server) attribute(ctx context.Context, q question, p place, r Resolution) outcome {
	if q.typ != dns.TypeSRV && q.typ != dns.TypeHTTPS || len(p.sub) < 2 {
		return s.empty(q, p.zone, r)
	}
	protocol, ok := map[string]record.Protocol{"_tcp": record.TCP, "_udp": record.UDP, "_https": record.TCP}[p.sub[1]]
	if !ok || (p.sub[1] == "_https") != (q.typ == dns.TypeHTTPS) {
		return s.empty(q, p.zone, r)
	}
	port, ok := portNumber(p.sub[0][1:], protocol)
	if !ok {
		return s.empty(q, p.zone, r)
	}
	info, err := s.lookup(ctx, r.Service)
	if err != nil {
		return s.unlisted(q, p.zone, err)
	}
	if !slices.Contains(info.Ports, record.Port{Number: port, Protocol: protocol}) {
		return s.empty(q, p.zone, r)
	}
	v4, v6, err := s.addresses.Assign(ctx, r.Service)
	if err != nil {
		return s.failure(q, edeOther, fmt.Errorf("no virtual address: %w", err))
	}
	target := s.hostOf(q, 2)
	if q.typ == dns.TypeHTTPS {
		return s.positive(q, r, &dns.HTTPS{SVCB: s.binding(q, target, port, info, v4, v6, r.Service)})
	}
	o := s.positive(q, r, &dns.SRV{Hdr: s.header(q.name, q.typ), Port: port, Target: target})
	if v4.IsValid() {
		o.msg.Extra = append(o.msg.Extra, &dns.A{Hdr: s.header(target, dns.TypeA), A: v4.Unmap().AsSlice()})
	}
	if v6.IsValid() {
		o.msg.Extra = append(o.msg.Extra, &dns.AAAA{Hdr: s.header(target, dns.TypeAAAA), AAAA: v6.AsSlice()})
	}
	return o
}

// hostOf returns the question's name without its first labels.
func (s *Server) hostOf(q question, skip int) string {
	off := 0
	for range skip {
		off, _ = dns.NextLabel(q.name, off)
	}
	return q.name[off:]
}

// portNumber reads a port by number or by its name in the host's services file.
func portNumber(text string, protocol record.Protocol) (uint16, bool) {
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		return uint16(n), n > 0
	}
	n, ok := wellKnown[text]
	if ok && protocol == record.UDP && !n.udp {
		return 0, false
	}
	return n.port, ok
}

// wellKnown are the services people look up by SRV (IANA service names).
var wellKnown = map[string]struct {
	port uint16
	udp  bool
}{
	"ssh": {22, false}, "smtp": {25, false}, "domain": {53, true}, "http": {80, false}, "kerberos": {88, true},
	"ntp": {123, true}, "imap": {143, false}, "ldap": {389, false}, "https": {443, true}, "submission": {587, false},
	"ipp": {631, false}, "imaps": {993, false}, "mqtt": {1883, false}, "sip": {5060, true}, "sips": {5061, false},
	"xmpp-client": {5222, false}, "xmpp-server": {5269, false}, "postgresql": {5432, false}, "redis": {6379, false},
	"secure-mqtt": {8883, false}, "minecraft": {25565, false}, "matrix": {8448, false},
}

// binding returns an SVCB record (RFC 9460) with the addresses as hints.
func (s *Server) binding(q question, target string, port uint16, info Service, v4, v6 netip.Addr, id identity.ServiceID) dns.SVCB {
	b := dns.SVCB{Hdr: s.header(q.name, q.typ), Priority: 1, Target: target}
	if port != 0 {
		// The alternatives are offered in TLS anyway; http/1.1 is implied.
		alpn := []string{"h2"}
		if slices.Contains(info.Ports, record.Port{Number: port, Protocol: record.UDP}) {
			alpn = []string{"h3", "h2"}
		}
		b.Value = append(b.Value, &dns.SVCBAlpn{Alpn: alpn})
		if port != 443 {
			b.Value = append(b.Value, &dns.SVCBPort{Port: port})
		}
	}
	if v4.IsValid() {
		b.Value = append(b.Value, &dns.SVCBIPv4Hint{Hint: ips(v4.Unmap())})
	}
	if v6.IsValid() {
		b.Value = append(b.Value, &dns.SVCBIPv6Hint{Hint: ips(v6)})
	}
	if port == 0 {
		b.Value = append(b.Value, &dns.SVCBLocal{KeyCode: keyService, Data: id[:]})
	}
	return b
}

// text returns the TXT record: key=value strings (RFC 6763 §6).
func (s *Server) text(q question, r Resolution, info Service) dns.RR {
	t := &dns.TXT{Hdr: s.header(q.name, q.typ), Txt: []string{"v=scn1", "service=" + r.Service.String()}}
	if r.Source == FromPetname {
		t.Txt = append(t.Txt, "petname="+string(r.Name))
	}
	if r.Record.Height != 0 {
		t.Txt = append(t.Txt, "height="+strconv.FormatUint(r.Record.Height, 10))
	}
	if len(info.Providers) > 0 {
		t.Txt = append(t.Txt, "providers="+strconv.Itoa(len(info.Providers)))
	}
	ports := "ports="
	for i, p := range info.Ports {
		next := fmt.Sprintf("%d/%s", p.Number, p.Protocol)
		if len(ports)+1+len(next) > 255 {
			break
		}
		if i > 0 {
			ports += ","
		}
		ports += next
	}
	if len(info.Ports) > 0 {
		t.Txt = append(t.Txt, ports)
	}
	return t
}

// apex answers for the zones themselves.
func (s *Server) apex(q question, zone string) outcome {
	switch q.typ {
	case dns.TypeSOA:
		soa := s.soa(zone)
		soa.Hdr = s.header(q.name, q.typ)
		return s.positive(q, Resolution{}, soa)
	case dns.TypeNS:
		return s.positive(q, Resolution{}, &dns.NS{Hdr: s.header(q.name, q.typ), Ns: serverLabel + "." + Alt + "."})
	case dns.TypeANY:
		return s.positive(q, Resolution{}, &dns.HINFO{Hdr: s.header(q.name, dns.TypeHINFO), Cpu: "RFC8482"})
	case dns.TypeDS, dns.TypeDNSKEY, dns.TypeNSEC, dns.TypeNSEC3PARAM, dns.TypeRRSIG:
		// The namesake on the Internet is signed; who validates it needs its keys.
		if zone != Alt && !isReverse(zone) {
			return outcome{forward: true}
		}
	}
	return s.empty(q, zone, Resolution{})
}

// self answers for the name of this server.
func (s *Server) self(q question) outcome {
	var rrs []dns.RR
	for _, a := range s.listen {
		switch {
		case q.typ == dns.TypeA && a.Is4():
			rrs = append(rrs, &dns.A{Hdr: s.header(q.name, q.typ), A: a.AsSlice()})
		case q.typ == dns.TypeAAAA && a.Is6():
			rrs = append(rrs, &dns.AAAA{Hdr: s.header(q.name, q.typ), AAAA: a.WithZone("").AsSlice()})
		}
	}
	if len(rrs) == 0 {
		return s.empty(q, Alt, Resolution{})
	}
	return s.positive(q, Resolution{}, rrs...)
}

// reverseZone returns the zone of ours that a reverse name lies in.
func (s *Server) reverseZone(addr netip.Addr, bits int) (string, bool) {
	labels := reverseLabels(addr, bits)
	for i := range labels {
		if zone := strings.Join(labels[i:], "."); slices.Contains(s.reverse, zone) {
			return zone, true
		}
	}
	return "", false
}

// pointer answers for a reverse name in a zone of ours.
func (s *Server) pointer(q question, addr netip.Addr, bits int, zone string) outcome {
	if len(q.labels) == strings.Count(zone, ".")+1 {
		return s.apex(q, zone)
	}
	if bits < addr.BitLen() {
		// Something may be below it, so it exists (RFC 8020).
		return s.empty(q, zone, Resolution{})
	}
	host := ""
	if slices.Contains(s.listen, addr) {
		host = serverLabel + "." + Alt
	} else if id, ok := s.addresses.Service(addr); ok {
		host = s.hostName(id)
	}
	switch {
	case host == "":
		return s.negative(q, dns.RcodeNameError, zone, nil)
	case q.typ != dns.TypePTR:
		return s.empty(q, zone, Resolution{})
	}
	o := s.positive(q, Resolution{}, &dns.PTR{Hdr: s.header(q.name, q.typ), Ptr: host + "."})
	o.stale = 0 // an address is cheap to look up
	return o
}

func isReverse(zone string) bool { return strings.HasSuffix(zone, ".arpa") }

// positive is an answer with records.
func (s *Server) positive(q question, r Resolution, rrs ...dns.RR) outcome {
	m := s.message(q, dns.RcodeSuccess)
	m.Answer = rrs
	o := outcome{msg: m, fresh: s.cfg.Fresh, stale: s.cfg.Stale}
	return o.limited(r, s.cfg.Clock())
}

// empty is NODATA: the name exists, the type does not (RFC 2308 §2.2).
func (s *Server) empty(q question, zone string, r Resolution) outcome {
	o := s.negative(q, dns.RcodeSuccess, zone, nil)
	if r.Service != (identity.ServiceID{}) {
		o.fresh, o.stale = s.cfg.Fresh, s.cfg.Stale
	}
	return o.limited(r, s.cfg.Clock())
}

// limited bounds how long the answer is kept by the record it rests on, and says
// when the authority did not confirm that.
func (o outcome) limited(r Resolution, now time.Time) outcome {
	if r.Source == FromRegistry {
		left := max(0, time.Unix(r.Record.NotAfter, 0).Sub(now))
		o.fresh = min(o.fresh, left)
		o.stale = min(o.stale, left-o.fresh)
	}
	if r.Stale {
		o.ede = message.Error{Code: edeStale, Text: "the authority could not be asked again"}
	}
	return o
}

// unlisted answers for a service without a record: it exists, with no address yet.
// A search that failed is no answer.
func (s *Server) unlisted(q question, zone string, err error) outcome {
	if !errors.Is(err, ErrNoService) {
		return s.failure(q, edeNetwork, fmt.Errorf("the service's record cannot be looked up: %w", err))
	}
	o := s.negative(q, dns.RcodeSuccess, zone, err)
	o.fresh = min(o.fresh, time.Second) // it may be published any moment
	return o
}

// negative is NXDOMAIN or NODATA with the zone's SOA (RFC 2308 §3).
func (s *Server) negative(q question, rcode int, zone string, why error) outcome {
	m := s.message(q, rcode)
	m.Ns = []dns.RR{s.soa(zone)}
	o := outcome{msg: m, fresh: s.cfg.NegativeTTL}
	if why != nil {
		o.ede = message.Error{Code: edeOther, Text: why.Error()}
	}
	return o
}

// failure is SERVFAIL, and never kept.
func (s *Server) failure(q question, code uint16, why error) outcome {
	m := s.message(q, dns.RcodeServerFailure)
	m.Authoritative = false
	return outcome{msg: m, ede: message.Error{Code: code, Text: why.Error()}}
}

func (s *Server) message(q question, rcode int) *dns.Msg {
	return &dns.Msg{
		MsgHdr:   dns.MsgHdr{Response: true, Authoritative: true, RecursionAvailable: true, Rcode: rcode},
		Compress: true,
		Question: []dns.Question{{Name: q.name, Qtype: q.typ, Qclass: dns.ClassINET}},
	}
}

func (s *Server) header(name string, typ uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: uint32(s.cfg.TTL / time.Second)}
}

// soa is the start of a zone's authority. Its TTL and minimum are the negative TTL
// (RFC 2308 §3).
func (s *Server) soa(zone string) *dns.SOA {
	negative := uint32(s.cfg.NegativeTTL / time.Second)
	return &dns.SOA{
		Hdr:     dns.RR_Header{Name: zone + ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: negative},
		Ns:      serverLabel + "." + Alt + ".",
		Mbox:    "hostmaster." + Alt + ".",
		Serial:  s.serial,
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negative,
	}
}

func ips(addr netip.Addr) []net.IP { return []net.IP{addr.AsSlice()} }

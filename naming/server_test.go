package naming

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// sections returns the records of a message as text, without TTL of the OPT.
func sections(m *dns.Msg) []string {
	var out []string
	for _, s := range []struct {
		name string
		rrs  []dns.RR
	}{{"", m.Answer}, {"authority ", m.Ns}, {"additional ", m.Extra}} {
		for _, rr := range s.rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				out = append(out, s.name+strings.ReplaceAll(rr.String(), "\t", " "))
			}
		}
	}
	return out
}

func TestRecords(t *testing.T) {
	r := newRig(t, func(n *NamesConfig, _ *Config) {
		n.Petnames = map[name.Name]identity.ServiceID{"nas": service("nas")}
	})
	chat := identity.ServiceID{10, 1, 2}
	r.registry.set("chat", chat)
	r.services.set(chat,
		record.Port{Number: 22, Protocol: record.TCP}, record.Port{Number: 443, Protocol: record.TCP},
		record.Port{Number: 443, Protocol: record.UDP}, record.Port{Number: 8443, Protocol: record.TCP})
	plain := identity.ServiceID{11, 1, 2}
	r.registry.set("plain", plain)
	r.services.set(plain, record.Port{Number: 80, Protocol: record.TCP})
	soa := func(zone string) string {
		return "authority " + zone + ". 5 IN SOA ns.scn.alt. hostmaster.scn.alt. SERIAL 3600 600 86400 5"
	}
	nas := service("nas")
	nas4, nas6, _ := r.addresses.Assign(t.Context(), nas)
	for _, tt := range []struct {
		host  string
		typ   uint16
		rcode int
		want  []string
	}{
		{"chat.top", dns.TypeA, 0, []string{"chat.top. 10 IN A 198.18.10.1"}},
		{"chat.top", dns.TypeAAAA, 0, []string{"chat.top. 10 IN AAAA fd53:434e::a01:200:0:1"}},
		{"a.b.chat.top", dns.TypeA, 0, []string{"a.b.chat.top. 10 IN A 198.18.10.1"}},
		{"chat.scn.alt", dns.TypeA, 0, []string{"chat.scn.alt. 10 IN A 198.18.10.1"}},
		{"www.chat.scn.alt", dns.TypeA, 0, []string{"www.chat.scn.alt. 10 IN A 198.18.10.1"}},
		{chat.String() + ".top", dns.TypeA, 0, []string{chat.String() + ".top. 10 IN A 198.18.10.1"}},
		{chat.String() + ".scn.alt", dns.TypeA, 0, []string{chat.String() + ".scn.alt. 10 IN A 198.18.10.1"}},
		{"nas.top", dns.TypeA, 0, []string{"nas.top. 10 IN A " + nas4.String()}},
		{"nas.scn.alt", dns.TypeAAAA, 0, []string{"nas.scn.alt. 10 IN AAAA " + nas6.String()}},
		{"chat.top", dns.TypeHTTPS, 0, []string{`chat.top. 10 IN HTTPS 1 . alpn="h3,h2" ipv4hint="198.18.10.1" ipv6hint="fd53:434e::a01:200:0:1"`}},
		{"_8443._https.chat.top", dns.TypeHTTPS, 0, []string{`_8443._https.chat.top. 10 IN HTTPS 1 chat.top. alpn="h2" port="8443" ipv4hint="198.18.10.1" ipv6hint="fd53:434e::a01:200:0:1"`}},
		{"plain.top", dns.TypeHTTPS, 0, []string{soa("top")}},
		{"_22._tcp.chat.top", dns.TypeSRV, 0, []string{
			"_22._tcp.chat.top. 10 IN SRV 0 0 22 chat.top.",
			"additional chat.top. 10 IN A 198.18.10.1", "additional chat.top. 10 IN AAAA fd53:434e::a01:200:0:1",
		}},
		{"_ssh._tcp.sub.chat.top", dns.TypeSRV, 0, []string{
			"_ssh._tcp.sub.chat.top. 10 IN SRV 0 0 22 sub.chat.top.",
			"additional sub.chat.top. 10 IN A 198.18.10.1", "additional sub.chat.top. 10 IN AAAA fd53:434e::a01:200:0:1",
		}},
		{"_23._tcp.chat.top", dns.TypeSRV, 0, []string{soa("top")}},
		{"_22._udp.chat.top", dns.TypeSRV, 0, []string{soa("top")}},
		{"_dmarc.chat.top", dns.TypeTXT, 0, []string{soa("top")}},
		{"chat.top", dns.TypeTXT, 0, []string{
			`chat.top. 10 IN TXT "v=scn1" "service=` + chat.String() + `" "height=7" "providers=2" "ports=22/tcp,443/tcp,443/udp,8443/tcp"`,
		}},
		{"chat.top", dns.TypeMX, 0, []string{soa("top")}},
		{"chat.top", dns.TypeNS, 0, []string{soa("top")}},
		{"chat.top", dns.TypeSOA, 0, []string{soa("top")}},
		{"chat.top", dns.TypeCNAME, 0, []string{soa("top")}},
		{"chat.scn.alt", dns.TypeDS, 0, []string{soa("scn.alt")}},
		{"chat.top", dns.TypeANY, 0, []string{`chat.top. 10 IN HINFO "RFC8482" ""`}},
		{"top", dns.TypeSOA, 0, []string{"top. 10 IN SOA ns.scn.alt. hostmaster.scn.alt. SERIAL 3600 600 86400 5"}},
		{"top", dns.TypeNS, 0, []string{"top. 10 IN NS ns.scn.alt."}},
		{"scn.alt", dns.TypeNS, 0, []string{"scn.alt. 10 IN NS ns.scn.alt."}},
		{"scn.alt", dns.TypeA, 0, []string{soa("scn.alt")}},
		{"ns.scn.alt", dns.TypeA, 0, []string{"ns.scn.alt. 10 IN A 127.0.0.1"}},
		{"ns.scn.alt", dns.TypeAAAA, 0, []string{soa("scn.alt")}},
		{"nobody.scn.alt", dns.TypeA, dns.RcodeNameError, []string{soa("scn.alt")}},
		{"x.scn.alt", dns.TypeA, dns.RcodeNameError, []string{soa("scn.alt")}},
		{"1.10.18.198.in-addr.arpa", dns.TypePTR, 0, []string{"1.10.18.198.in-addr.arpa. 10 IN PTR "}},
		{"1.10.18.198.in-addr.arpa", dns.TypeTXT, 0, []string{soa("18.198.in-addr.arpa")}},
		{"10.18.198.in-addr.arpa", dns.TypePTR, 0, []string{soa("18.198.in-addr.arpa")}},
		{"18.198.in-addr.arpa", dns.TypeSOA, 0, []string{"18.198.in-addr.arpa. 10 IN SOA ns.scn.alt. hostmaster.scn.alt. SERIAL 3600 600 86400 5"}},
		{"9.9.19.198.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, []string{soa("19.198.in-addr.arpa")}},
		{"1.0.0.0.0.0.0.0.0.0.2.0.1.0.a.0.0.0.0.0.0.0.0.0.e.4.3.4.3.5.d.f.ip6.arpa", dns.TypePTR, 0, []string{"1.0.0.0.0.0.0.0.0.0.2.0.1.0.a.0.0.0.0.0.0.0.0.0.e.4.3.4.3.5.d.f.ip6.arpa. 10 IN PTR "}},
	} {
		t.Run(tt.host+" "+dns.TypeToString[tt.typ], func(t *testing.T) {
			for _, network := range []string{"udp", "tcp"} { // made, then kept
				m := new(dns.Msg).SetQuestion(dns.Fqdn(tt.host), tt.typ)
				m.SetEdns0(1232, true)
				a := r.exchange(t, m, network)
				if a.Rcode != tt.rcode || !a.Authoritative || !a.RecursionAvailable || !a.RecursionDesired || a.AuthenticatedData {
					t.Errorf("%s: header %+v, want rcode %d", network, a.MsgHdr, tt.rcode)
				}
				got := sections(a)
				for i := range got {
					got[i] = serial.ReplaceAllString(got[i], "${1}SERIAL ")
					if strings.HasSuffix(tt.want[min(i, len(tt.want)-1)], " PTR ") { // whichever of its names came last
						got[i] = got[i][:strings.Index(got[i], " PTR ")+5]
					}
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s: (-want +got)\n%s", network, diff)
				}
				o := a.IsEdns0()
				if o == nil || o.UDPSize() != 1232 || !o.Do() {
					t.Errorf("%s: OPT %v", network, o)
				}
			}
		})
	}
	if n := r.up.count("chat.top") + r.up.count("nobody.scn.alt") + r.up.count("x.scn.alt"); n != 0 {
		t.Errorf("the upstream was asked %d times for what is ours", n)
	}
}

var serial = regexp.MustCompile(`(hostmaster\.scn\.alt\. )\d+ `)

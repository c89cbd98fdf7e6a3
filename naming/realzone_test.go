package naming

import (
	"context"
	"errors"
	"testing"

	"github.com/miekg/dns"
)

// zoneUpstream answers from a table of TXT texts by host; other hosts do not exist.
type zoneUpstream struct {
	txt   map[string][]string
	hosts map[string]bool
	rcode int
	err   error
}

func (z zoneUpstream) Asked([]byte) bool { return false }

func (z zoneUpstream) Exchange(_ context.Context, query []byte) ([]byte, error) {
	q := new(dns.Msg)
	if err := q.Unpack(query); err != nil || z.err != nil {
		return nil, errors.Join(err, z.err)
	}
	host := q.Question[0].Name
	a := new(dns.Msg).SetRcode(q, z.rcode)
	if z.rcode == dns.RcodeSuccess && !z.hosts[host] {
		a.Rcode = dns.RcodeNameError
	}
	if texts := z.txt[host]; texts != nil && q.Question[0].Qtype == dns.TypeTXT {
		a.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: host, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: texts}}
	}
	return a.Pack()
}

func TestInRealZone(t *testing.T) {
	bank := map[string]bool{"bank.top.": true, "_scn.bank.top.": true}
	for _, c := range []struct {
		what           string
		up             zoneUpstream
		exists, proved bool
		fails          bool
	}{
		{"free", zoneUpstream{}, false, false, false},
		{"taken, no proof", zoneUpstream{hosts: map[string]bool{"bank.top.": true}}, true, false, false},
		{"taken, another's proof", zoneUpstream{hosts: bank, txt: map[string][]string{"_scn.bank.top.": {"other"}}}, true, false, false},
		{"taken, proved in two strings", zoneUpstream{hosts: bank, txt: map[string][]string{"_scn.bank.top.": {"pro", "of"}}}, true, true, false},
		{"server fails", zoneUpstream{rcode: dns.RcodeServerFailure}, false, false, true},
		{"no server", zoneUpstream{err: errors.New("down")}, false, false, true},
	} {
		exists, proved, err := InRealZone(t.Context(), c.up, "top", "bank", "proof")
		if exists != c.exists || proved != c.proved || (err != nil) != c.fails {
			t.Errorf("%s: %v, %v, %v", c.what, exists, proved, err)
		}
	}
}

package naming

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"scn.alt/scn/naming/name"
)

// InRealZone asks the Internet's DNS whether a name exists in its own zone of our
// zone's name, and whether the TXT record at _scn.<name>.<zone> has the text given,
// which its holder puts there to prove control. An error means that it could not be
// found out.
func InRealZone(ctx context.Context, up Upstream, zone string, n name.Name, proof string) (exists, proved bool, err error) {
	host := dns.Fqdn(string(n) + "." + zone)
	answer, err := ask(ctx, up, host, dns.TypeNS)
	if err != nil {
		return false, false, err
	}
	if answer.Rcode == dns.RcodeNameError {
		return false, false, nil
	}
	answer, err = ask(ctx, up, "_scn."+host, dns.TypeTXT)
	if err != nil {
		return true, false, err
	}
	proved = slices.ContainsFunc(answer.Answer, func(rr dns.RR) bool {
		txt, ok := rr.(*dns.TXT)
		return ok && strings.Join(txt.Txt, "") == proof
	})
	return true, proved, nil
}

// ask makes one query; an answer other than success and "no such name" is an error.
func ask(ctx context.Context, up Upstream, host string, kind uint16) (*dns.Msg, error) {
	query, err := new(dns.Msg).SetQuestion(host, kind).Pack()
	if err != nil {
		return nil, err
	}
	raw, err := up.Exchange(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("ask for %s: %w", host, err)
	}
	answer := new(dns.Msg)
	if err := answer.Unpack(raw); err != nil {
		return nil, fmt.Errorf("answer about %s: %w", host, err)
	}
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("answer about %s: %s", host, dns.RcodeToString[answer.Rcode])
	}
	return answer, nil
}

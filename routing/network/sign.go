package network

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"scn.alt/scn/routing/identity"
)

// Sign renders f, signs it with the founder's key and returns the file as Parse
// would. The text is written anew: comments other than Header are lost, which
// SignText keeps.
func (f File) Sign(founder identity.PrivateKey) (File, error) {
	f.ID = founder.Network()
	if err := f.validate(false); err != nil {
		return File{}, err
	}
	return SignText(f.render(), founder)
}

// SignText signs a text somebody edited by hand, taking its old signature off. The
// text must name the founder's network.
func SignText(text []byte, founder identity.PrivateKey) (File, error) {
	if len(text) > MaxSize {
		return File{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(text), MaxSize)
	}
	body := bytes.TrimRight(text, " \t\r\n")
	if start := bytes.LastIndexByte(body, '\n') + 1; bytes.HasPrefix(body[start:], []byte("signature")) {
		body = bytes.TrimRight(body[:start], " \t\r\n")
	}
	body = append(bytes.Clone(body), '\n')
	f, err := decode(body)
	if err == nil && f.ID != founder.Network() {
		err = fmt.Errorf("%w: this key founds %s", ErrOther, founder.Network())
	}
	if err != nil {
		return File{}, err
	}
	f.text = join(body, founder.Sign(domain, recordType, body))
	if len(f.text) > MaxSize {
		return File{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(f.text), MaxSize)
	}
	// What is signed here must be readable everywhere.
	if _, err := ParseOf(f.ID, f.text); err != nil {
		return File{}, errors.Join(ErrInvalid, err)
	}
	return f, nil
}

// render writes the unsigned text.
func (f File) render() []byte {
	var b strings.Builder
	for _, line := range f.Header {
		b.WriteString(strings.TrimRight("# "+strings.Map(plainRune, line), " ") + "\n")
	}
	fmt.Fprintf(&b, "network = %q\n", f.ID.String())
	fmt.Fprintf(&b, "name = %s\n", quote(f.Name))
	fmt.Fprintf(&b, "# A file with a higher number replaces this one.\n")
	fmt.Fprintf(&b, "sequence = %d\n", f.Sequence)
	fmt.Fprintf(&b, "zone = %s\n", quote(f.Zone))
	fmt.Fprintf(&b, "# \"open\", or \"list\": only members, authorities and bootstrap nodes.\n")
	fmt.Fprintf(&b, "admission = %s\n", quote(string(f.Admission)))
	writeNodes(&b, "members", f.Members)
	fmt.Fprintf(&b, "# They keep the ledger and sign names.\n")
	writeNodes(&b, "authorities", f.Authorities)
	fmt.Fprintf(&b, "# Where a node finds its way in; addresses are of the SAL, the DHT has the port after.\n")
	b.WriteString("bootstrap = [\n")
	for _, p := range f.Bootstrap {
		addresses := make([]string, 0, len(p.Addresses))
		for _, a := range p.Addresses {
			addresses = append(addresses, strconv.Quote(a.String()))
		}
		fmt.Fprintf(&b, "  { node = %q, addresses = [%s] },\n", p.Node.String(), strings.Join(addresses, ", "))
	}
	b.WriteString("]\n\n[parameters]\n")
	for _, key := range slices.Sorted(maps.Keys(f.Parameters)) {
		switch v := f.Parameters[key].(type) {
		case string:
			fmt.Fprintf(&b, "%s = %s\n", key, quote(v))
		default:
			fmt.Fprintf(&b, "%s = %v\n", key, v)
		}
	}
	return []byte(b.String())
}

func writeNodes(b *strings.Builder, field string, nodes []identity.NodeID) {
	if len(nodes) == 0 {
		fmt.Fprintf(b, "%s = []\n", field)
		return
	}
	fmt.Fprintf(b, "%s = [\n", field)
	for _, n := range nodes {
		fmt.Fprintf(b, "  %q,\n", n.String())
	}
	b.WriteString("]\n")
}

// quote writes a TOML basic string. validate has refused control characters.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func plainRune(r rune) rune {
	if notPlain(r) {
		return ' '
	}
	return r
}

package network

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"scn.alt/scn/routing/identity"
)

const (
	domain     = "scn/network/v1"
	recordType = "network"
)

// signatureLine is how the last line starts; the signature and a quote follow.
const signatureLine = `signature = "`

var signatureEncoding = base64.RawStdEncoding.Strict()

// document is the TOML of a network file, signature taken off.
type document struct {
	Network     string         `toml:"network"`
	Name        string         `toml:"name"`
	Sequence    int64          `toml:"sequence"`
	Zone        string         `toml:"zone"`
	Admission   string         `toml:"admission"`
	Members     []string       `toml:"members"`
	Authorities []string       `toml:"authorities"`
	Bootstrap   []documentPeer `toml:"bootstrap"`
	Parameters  map[string]any `toml:"parameters"`
}

type documentPeer struct {
	Node      string   `toml:"node"`
	Addresses []string `toml:"addresses"`
}

// Parse reads a signed network file and reports all its faults at once. White
// space after the signature's line is forgiven; nothing else is.
func Parse(text []byte) (File, error) {
	if len(text) > MaxSize {
		return File{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(text), MaxSize)
	}
	body, signature, ok := split(text)
	f, faults := decode(body)
	switch {
	case !ok:
		faults = errors.Join(fmt.Errorf("%w: the last line must be %s…\"", ErrSignature, signatureLine), faults)
	case f.ID.IsZero():
		// decode says what is wrong with the ID; nothing can be verified without.
	case !identity.Verify(f.ID, domain, recordType, body, signature):
		faults = errors.Join(ErrSignature, faults)
	}
	if faults != nil {
		return File{}, faults
	}
	f.text = join(body, signature)
	return f, nil
}

// ParseOf is Parse for bytes from a stranger: the signature of the network named
// is verified before anything is decoded, and only the one spelling of a signed
// text, as Bytes returns it, is accepted.
func ParseOf(id identity.NetworkID, text []byte) (File, error) {
	if len(text) > MaxSize {
		return File{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(text), MaxSize)
	}
	body, signature, ok := split(text)
	if !ok || !identity.Verify(id, domain, recordType, body, signature) {
		return File{}, ErrSignature
	}
	f, err := decode(body)
	if err != nil {
		return File{}, err
	}
	if f.ID != id {
		return File{}, ErrOther
	}
	f.text = join(body, signature)
	if !bytes.Equal(f.text, text) {
		return File{}, fmt.Errorf("%w: bytes after the signature", ErrSyntax)
	}
	return f, nil
}

// split takes the signature's line off.
func split(text []byte) (body []byte, signature [identity.SignatureSize]byte, ok bool) {
	trimmed := bytes.TrimRight(text, " \t\r\n")
	start := bytes.LastIndexByte(trimmed, '\n') + 1
	line, found := bytes.CutPrefix(trimmed[start:], []byte(signatureLine))
	if !found {
		return trimmed, signature, false
	}
	line, found = bytes.CutSuffix(line, []byte(`"`))
	if !found || len(line) != signatureEncoding.EncodedLen(len(signature)) {
		return trimmed[:start], signature, false
	}
	_, err := signatureEncoding.Decode(signature[:], line)
	return trimmed[:start], signature, err == nil
}

func join(body []byte, signature [identity.SignatureSize]byte) []byte {
	text := make([]byte, 0, len(body)+len(signatureLine)+90)
	text = append(text, body...)
	text = append(text, signatureLine...)
	text = signatureEncoding.AppendEncode(text, signature[:])
	return append(text, '"', '\n')
}

// decode reads the unsigned part. The File is as complete as the faults allow.
func decode(body []byte) (File, error) {
	var d document
	var faults []error
	decoder := toml.NewDecoder(bytes.NewReader(body)).DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		var strict *toml.StrictMissingError
		if !errors.As(err, &strict) {
			return File{}, fmt.Errorf("%w: %w", ErrSyntax, located(err))
		}
		for _, unknown := range strict.Errors {
			row, _ := unknown.Position()
			faults = append(faults, fmt.Errorf("%w: line %d: unknown key %q", ErrSyntax, row, strings.Join(unknown.Key(), ".")))
		}
	}
	f := File{
		Name: d.Name, Zone: d.Zone, Admission: Admission(d.Admission),
		Parameters: d.Parameters, Header: header(body),
	}
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	var err error
	if f.ID, err = identity.ParseNetworkID(d.Network); err != nil {
		fault("network: %w", err)
	}
	f.Sequence = uint64(max(0, d.Sequence))
	nodes := func(field string, texts []string) (out []identity.NodeID) {
		for _, text := range texts {
			node, err := identity.ParseNodeID(text)
			if err != nil {
				fault("%s: %w", field, err)
				continue
			}
			out = append(out, node)
		}
		return out
	}
	f.Members = nodes("members", d.Members)
	f.Authorities = nodes("authorities", d.Authorities)
	for _, p := range d.Bootstrap {
		node, err := identity.ParseNodeID(p.Node)
		if err != nil {
			fault("bootstrap: %w", err)
		}
		peer := Peer{Node: node}
		for _, text := range p.Addresses {
			address, err := netip.ParseAddrPort(text)
			if err != nil {
				fault("bootstrap %s: address %q is not IP:PORT", node.Short(), text)
				continue
			}
			peer.Addresses = append(peer.Addresses, address)
		}
		f.Bootstrap = append(f.Bootstrap, peer)
	}
	faults = append(faults, f.validate(len(faults) > 0))
	return f, errors.Join(faults...)
}

// located turns a TOML error into one line with its place.
func located(err error) error {
	var at *toml.DecodeError
	if errors.As(err, &at) {
		row, column := at.Position()
		return fmt.Errorf("line %d, column %d: %w", row, column, err)
	}
	return err
}

// header returns the comment lines a text starts with.
func header(body []byte) (lines []string) {
	for line := range bytes.Lines(body) {
		comment, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("#"))
		if !ok {
			break
		}
		lines = append(lines, strings.TrimPrefix(string(comment), " "))
	}
	return lines
}

// validate reports every fault of the fields. With partial, entries that could
// not be read were reported already and zero values are left alone.
func (f File) validate(partial bool) error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrInvalid}, args...)...))
	}
	if f.ID.IsZero() && !partial {
		fault("network is missing")
	}
	if f.Sequence == 0 || f.Sequence > 1<<62 {
		fault("sequence must be 1 or more")
	}
	if len(f.Name) == 0 || len(f.Name) > MaxName || strings.ContainsFunc(f.Name, notPlain) {
		fault("name must have 1 to %d plain characters", MaxName)
	}
	if !validZone(f.Zone) {
		fault("zone %q must be one DNS label of letters, digits and hyphens", f.Zone)
	}
	if f.Admission != Open && f.Admission != List {
		fault("admission %q must be %q or %q", string(f.Admission), Open, List)
	}
	limit := func(field string, n, most int) {
		if n > most {
			fault("%d %s, at most %d", n, field, most)
		}
	}
	limit("members", len(f.Members), MaxMembers)
	limit("authorities", len(f.Authorities), MaxAuthorities)
	limit("bootstrap nodes", len(f.Bootstrap), MaxBootstrap)
	limit("parameters", len(f.Parameters), MaxParameters)
	var seen []identity.NodeID
	for _, p := range f.Bootstrap {
		if p.Node.IsZero() {
			continue
		}
		if slices.Contains(seen, p.Node) {
			fault("bootstrap %s is listed twice", p.Node)
		}
		seen = append(seen, p.Node)
		if len(p.Addresses) == 0 && !partial {
			fault("bootstrap %s has no address", p.Node)
		}
		limit("addresses of bootstrap "+p.Node.Short(), len(p.Addresses), MaxAddresses)
		for _, a := range p.Addresses {
			if a.Port() == 0 || a.Port() == 65535 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.Addr().Zone() != "" {
				fault("bootstrap %s: address %s (port 1 to 65534; the DHT takes the port after it)", p.Node.Short(), a)
			}
		}
	}
	for key, v := range f.Parameters {
		if key == "" || len(key) > MaxName || key == "signature" || strings.ContainsFunc(key, notKey) {
			fault("parameter %q: a name has lower-case letters, digits and _, and is not \"signature\"", key)
		}
		switch v := v.(type) {
		case bool, int64:
		case string:
			if len(v) > 1024 || strings.ContainsFunc(v, notPlain) {
				fault("parameter %q: at most 1024 plain characters", key)
			}
		default:
			fault("parameter %q must be true, false, an integer or a string", key)
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}

func notPlain(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }

func notKey(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }

func validZone(zone string) bool {
	if zone == "" || len(zone) > 63 || zone[0] == '-' || zone[len(zone)-1] == '-' {
		return false
	}
	return !strings.ContainsFunc(zone, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
	})
}

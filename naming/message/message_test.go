package message

import (
	"bytes"
	"errors"
	"testing"

	"github.com/miekg/dns"
)

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParse(t *testing.T) {
	query := []byte{
		0x12, 0x34, // ID
		0x01, 0x10, // RD, CD
		0, 1, 0, 0, 0, 0, 0, 1, // one question, one additional record
		4, 'C', 'h', 'a', 't', 3, 't', 'o', 'p', 0, // Chat.top.
		0, 28, 0, 1, // AAAA IN
		0, 0, 41, 0x10, 0x00, 0, 0, 0x80, 0, 0, 0, // OPT: 4096 bytes, version 0, DO
	}
	q, err := Parse(query)
	if err != nil {
		t.Fatal(err)
	}
	if q.ID != 0x1234 || q.Flags != FlagRecursionDesired|FlagCheckingDisabled || q.Opcode() != 0 || q.Type != 28 || q.Class != 1 ||
		string(q.Name) != "\x04Chat\x03top\x00" || q.End != 26 || !q.EDNS || !q.DO || q.Version != 0 || q.Size != UDPSize {
		t.Errorf("%+v", q)
	}
	for n := range len(query) {
		q, err := Parse(query[:n])
		switch {
		case n < HeaderSize && !errors.Is(err, ErrShort):
			t.Errorf("%d bytes: %v", n, err)
		case n >= HeaderSize && (!errors.Is(err, ErrFormat) || q.ID != 0x1234):
			t.Errorf("%d bytes: %v", n, err)
		}
		// Whatever is left deserves a reply that parses.
		if n >= HeaderSize {
			if err := new(dns.Msg).Unpack(AppendReply(nil, query[:n], q, 0, FormatError, Error{})); err != nil {
				t.Errorf("%d bytes: reply: %v", n, err)
			}
		}
	}
	query[2] |= 0x80
	if _, err := Parse(query); !errors.Is(err, ErrResponse) {
		t.Errorf("a response: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	long := append([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte{1, 'a'}, 128)...)
	for name, b := range map[string][]byte{
		"a pointer as name":  {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1},
		"a reserved label":   {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 1, 0, 1},
		"a name too long":    append(long, 0, 0, 1, 0, 1),
		"records missing":    {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 1},
		"no question":        {0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"OPT as answer":      {0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0},
		"OPT with a name":    {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 1, 'x', 0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0},
		"OPT longer than is": {0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 9},
	} {
		if q, err := Parse(b); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %+v, %v", name, q, err)
		}
	}
}

// The longest name there is passes.
func TestLongestName(t *testing.T) {
	name := bytes.Repeat(append([]byte{63}, bytes.Repeat([]byte{'a'}, 63)...), 3)
	name = append(append(name, 61), bytes.Repeat([]byte{'b'}, 61)...)
	name = append(name, 0)
	if len(name) != 255 {
		t.Fatal(len(name))
	}
	b := AppendQuery(nil, 1, 0, name, 1, 1, false)
	if q, err := Parse(b); err != nil || !bytes.Equal(q.Name, name) {
		t.Errorf("%v", err)
	}
	if err := new(dns.Msg).Unpack(b); err != nil {
		t.Error(err)
	}
}

func TestParseResponse(t *testing.T) {
	m := new(dns.Msg).SetQuestion("CHat.example.", dns.TypeA)
	m.Response, m.Rcode = true, dns.RcodeBadCookie // an extended code
	rr, _ := dns.NewRR("CHat.example. 60 IN A 192.0.2.1")
	extra, _ := dns.NewRR("ns.example. 60 IN A 192.0.2.2")
	m.Answer, m.Extra = []dns.RR{rr}, []dns.RR{extra}
	m.SetEdns0(4096, true)
	o := m.IsEdns0()
	o.Option = []dns.EDNS0{
		&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"},
		&dns.EDNS0_EDE{InfoCode: 15, ExtraText: "blocked"},
	}
	b := packed(t, m)
	name := []byte("\x04CHat\x07example\x00")
	f, differs, err := ParseResponse(b, m.Id, name, dns.TypeA, dns.ClassINET)
	if err != nil || differs || f.Rcode != dns.RcodeBadCookie || f.Truncated {
		t.Fatalf("%+v, %v, %v", f, differs, err)
	}
	client := new(dns.Msg).SetQuestion("chat.EXAMPLE.", dns.TypeA)
	client.SetEdns0(1232, true)
	query := packed(t, client)
	q, err := Parse(query)
	if err != nil {
		t.Fatal(err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(f.AppendTo(nil, query, q)); err != nil {
		t.Fatal(err)
	}
	if out.Id != client.Id || out.Rcode != dns.RcodeBadCookie || out.Question[0].Name != "chat.EXAMPLE." ||
		out.Answer[0].Header().Name != "chat.EXAMPLE." || len(out.Extra) != 2 {
		t.Errorf("%v", out)
	}
	if opts := out.IsEdns0().Option; len(opts) != 1 || opts[0].(*dns.EDNS0_EDE).ExtraText != "blocked" {
		t.Errorf("options %v: want the error and not the cookie", opts)
	}

	other := []byte("\x04chat\x07example\x00")
	if _, differs, err := ParseResponse(b, m.Id, other, dns.TypeA, dns.ClassINET); err != nil || !differs {
		t.Errorf("another case: %v, %v", differs, err)
	}
	for what, err := range map[string]error{
		"another ID":    second(ParseResponse(b, m.Id+1, name, dns.TypeA, dns.ClassINET)),
		"another type":  second(ParseResponse(b, m.Id, name, dns.TypeAAAA, dns.ClassINET)),
		"another class": second(ParseResponse(b, m.Id, name, dns.TypeA, dns.ClassCHAOS)),
		"another name":  second(ParseResponse(b, m.Id, []byte("\x04chat\x07exampl3\x00"), dns.TypeA, dns.ClassINET)),
		"a query":       second(ParseResponse(query, client.Id, other, dns.TypeA, dns.ClassINET)),
	} {
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for n := range len(b) {
		if _, _, err := ParseResponse(b[:n], m.Id, name, dns.TypeA, dns.ClassINET); err == nil {
			t.Errorf("%d bytes: no error", n)
		}
	}
	// Cut in the middle of a record, and said so.
	b[2] |= FlagTruncated >> 8
	f, _, err = ParseResponse(b[:60], m.Id, name, dns.TypeA, dns.ClassINET)
	if err != nil || !f.Truncated {
		t.Errorf("%+v, %v", f, err)
	}
	if err := out.Unpack(f.AppendTo(nil, query, q)); err != nil || !out.Truncated {
		t.Errorf("%v, %v", out, err)
	}
}

func second(_ Forwarded, _ bool, err error) error { return err }

func TestErrorText(t *testing.T) {
	query := packed(t, new(dns.Msg).SetQuestion("a.", 1).SetEdns0(512, false))
	q, _ := Parse(query)
	m := new(dns.Msg)
	long := string(bytes.Repeat([]byte{'x'}, 300))
	if err := m.Unpack(AppendReply(nil, query, q, 0, BadVersion, Error{Code: 22, Text: long})); err != nil {
		t.Fatal(err)
	}
	if e := m.IsEdns0().Option[0].(*dns.EDNS0_EDE); m.Rcode != BadVersion || e.InfoCode != 22 || len(e.ExtraText) != 200 {
		t.Errorf("%v", m)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(packed(f, new(dns.Msg).SetQuestion("chat.top.", dns.TypeA).SetEdns0(1232, true)))
	f.Add(AppendQuery(nil, 7, FlagRecursionDesired, []byte("\x04chat\x03top\x00"), 1, 1, true))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := Parse(b)
		if err != nil && !errors.Is(err, ErrFormat) {
			return
		}
		if q.End > len(b) || q.Size < MinUDPSize || q.Size > UDPSize {
			t.Fatalf("%+v of %d bytes", q, len(b))
		}
		reply := AppendReply(nil, b, q, 0, ServerFailure, Error{Text: "x"})
		if err := new(dns.Msg).Unpack(reply); err != nil {
			t.Fatalf("%x replied %x: %v", b, reply, err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	m := new(dns.Msg).SetQuestion("chat.top.", dns.TypeA)
	m.Id, m.Response = 7, true
	rr, _ := dns.NewRR("chat.top. 60 IN CNAME x.chat.top.")
	m.Answer = []dns.RR{rr}
	f.Add(packed(f, m))
	f.Add(packed(f, m.SetEdns0(4096, true)))
	name := []byte("\x04chat\x03top\x00")
	query := AppendQuery(nil, 9, 0, []byte("\x04CHAT\x03top\x00"), dns.TypeA, dns.ClassINET, true)
	q, err := Parse(query)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := ParseResponse(b, 7, name, dns.TypeA, dns.ClassINET)
		if err != nil {
			return
		}
		out := r.AppendTo(nil, query, q)
		if got, err := findOPT(out, q.End); err != nil || got.end == 0 {
			t.Fatalf("%x forwarded as %x: %v", b, out, err)
		}
		if !bytes.Equal(out[HeaderSize:q.End], query[HeaderSize:q.End]) || out[1] != 9 {
			t.Fatalf("%x forwarded as %x", b, out)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	query := packed(b, new(dns.Msg).SetQuestion("chat.top.", dns.TypeA).SetEdns0(1232, true))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(query); err != nil {
			b.Fatal(err)
		}
	}
}

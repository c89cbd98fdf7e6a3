package sal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/routing/identity"
	"scn.alt/scn/routing/record"
)

// golden turns annotated hex into bytes: everything after # on a line is a comment.
func golden(t testing.TB, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		code, _, _ := strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(code), ""))
	}
	b, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func filled(b byte) (a [32]byte) {
	for i := range a {
		a[i] = b
	}
	return a
}

var goldenOpen = openMessage{
	Protocol: record.TCP, Port: 443, Service: identity.ServiceID(filled(0xaa)), Nonce: filled(0xbb),
	Capabilities: 300, Extension: []byte("xyz"),
}

const goldenOpenHex = `
	01       # version
	06       # protocol: TCP
	01bb     # port 443
	0006     # length of the body
	aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa # service
	bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb # nonce
	412c     # capabilities 300
	03       # length of the extension
	78797a   # extension
`

func TestOpenMessage(t *testing.T) {
	want := golden(t, goldenOpenHex)
	got := goldenOpen.Append(nil)
	if !bytes.Equal(got, want) {
		t.Fatalf("got  %x\nwant %x", got, want)
	}
	if goldenOpen.Len() != len(want) {
		t.Errorf("Len %d, want %d", goldenOpen.Len(), len(want))
	}
	m, n, err := parseOpen(append(want, "data follows"...))
	if err != nil || n != len(want) {
		t.Fatalf("parse: %d, %v", n, err)
	}
	if d := cmp.Diff(goldenOpen, m); d != "" {
		t.Error(d)
	}
	for i := range want {
		if _, _, err := parseOpen(want[:i]); err == nil {
			t.Errorf("no error with %d of %d bytes", i, len(want))
		}
	}
	bad := bytes.Clone(want)
	bad[0] = 2
	if _, _, err := parseOpen(bad); !errors.Is(err, errVersion) {
		t.Errorf("version 2: %v", err)
	}
	bad = bytes.Clone(want)
	bad[4] = 0xff
	if _, _, err := parseOpen(bad); !errors.Is(err, errTooLong) {
		t.Errorf("long body: %v", err)
	}
}

var goldenAnswer = answerMessage{Status: StatusOverCapacity, Capabilities: 1, Extension: []byte{0xee}}

const goldenAnswerHex = `
	01     # version
	04     # status: over capacity
	0003   # length of the body
	01     # capabilities
	01 ee  # extension
`

func TestAnswerMessage(t *testing.T) {
	want := golden(t, goldenAnswerHex)
	got := goldenAnswer.Append(nil)
	if !bytes.Equal(got, want) || goldenAnswer.Len() != len(want) {
		t.Fatalf("got %x (Len %d), want %x", got, goldenAnswer.Len(), want)
	}
	for i := range want {
		if _, _, err := parseAnswer(want[:i]); err == nil {
			t.Errorf("no error with %d of %d bytes", i, len(want))
		}
	}
	var r answerReader
	m, err := r.read(iotest.OneByteReader(bytes.NewReader(want)))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(goldenAnswer, m); d != "" {
		t.Error(d)
	}
	// Interrupted anywhere, it goes on where it stopped.
	for i := range want {
		var r answerReader
		if _, err := r.read(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader(want[:i])))); err == nil {
			t.Fatalf("no error with %d bytes", i)
		}
		if m, err := r.read(bytes.NewReader(want[r.fill:])); err != nil || m.Status != goldenAnswer.Status {
			t.Errorf("after %d bytes: %v, %v", i, m, err)
		}
	}
}

var goldenHello = helloMessage{
	Instance: [16]byte(bytes.Repeat([]byte{0xcc}, 16)), Time: 0x0102030405060708, Capabilities: 0, Extension: []byte{1, 2},
}

const goldenHelloHex = `
	01 00                             # version, reserved
	0004                              # length of the body
	cccccccccccccccccccccccccccccccc  # instance
	0102030405060708                  # time
	00                                # capabilities
	02 0102                           # extension
`

func TestHelloMessage(t *testing.T) {
	want := golden(t, goldenHelloHex)
	got := goldenHello.Append(nil)
	if !bytes.Equal(got, want) || goldenHello.Len() != len(want) {
		t.Fatalf("got %x (Len %d), want %x", got, goldenHello.Len(), want)
	}
	m, n, err := parseHello(want)
	if err != nil || n != len(want) {
		t.Fatal(n, err)
	}
	if d := cmp.Diff(goldenHello, m); d != "" {
		t.Error(d)
	}
	for i := range want {
		if _, _, err := parseHello(want[:i]); err == nil {
			t.Errorf("no error with %d of %d bytes", i, len(want))
		}
		if _, err := readHello(bytes.NewReader(want[:i])); err == nil {
			t.Errorf("read: no error with %d of %d bytes", i, len(want))
		}
	}
	if m, err := readHello(bytes.NewReader(want)); err != nil || m.Instance != goldenHello.Instance {
		t.Errorf("read: %v, %v", m, err)
	}
}

var goldenDatagrams = []struct {
	name    string
	message datagramMessage
	hex     string
	fixed   bool // truncation anywhere is an error
}{
	{
		"whole",
		datagramMessage{Kind: kindWhole, Flow: 300, Payload: []byte("hi")},
		"00 412c # kind, flow\n 6869 # payload", false,
	},
	{
		"part",
		datagramMessage{Kind: kindPart, Flow: 4, Number: 70, Index: 1, Count: 3, Payload: []byte("hi")},
		"01 04 # kind, flow\n 4046 01 03 # number, index, count\n 6869 # payload", false,
	},
	{
		"frame",
		datagramMessage{Kind: kindFrame, Flow: 8, Payload: []byte{9}},
		"02 08 # kind, flow\n 09 # payload", false,
	},
	{
		"ping",
		datagramMessage{Kind: kindPing, Token: 7, Service: identity.ServiceID(filled(0xaa))},
		"03 0000000000000007 # kind, token\n" + strings.Repeat("aa", 32), true,
	},
	{
		"pong",
		datagramMessage{Kind: kindPong, Token: 7, Status: StatusUnknownService},
		"04 0000000000000007 # kind, token\n 02 # status", true,
	},
}

func TestDatagramMessage(t *testing.T) {
	for _, c := range goldenDatagrams {
		t.Run(c.name, func(t *testing.T) {
			want := golden(t, c.hex)
			got := c.message.Append(nil)
			if !bytes.Equal(got, want) || c.message.Len() != len(want) {
				t.Fatalf("got %x (Len %d), want %x", got, c.message.Len(), want)
			}
			var m datagramMessage
			if err := m.parse(want); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.message, m); d != "" {
				t.Error(d)
			}
			end := len(want)
			if !c.fixed {
				end -= len(c.message.Payload)
			}
			for i := range end {
				if err := m.parse(want[:i]); err == nil {
					t.Errorf("no error with %d of %d bytes", i, len(want))
				}
			}
			if c.fixed && m.parse(append(want, 0)) == nil {
				t.Error("no error with a trailing byte")
			}
			if n := testing.AllocsPerRun(100, func() { _ = m.parse(want) }); n != 0 {
				t.Errorf("parse allocates %v times", n)
			}
		})
	}
	var m datagramMessage
	if m.parse([]byte{kindPart, 1, 1, 3, 3, 0}) == nil {
		t.Error("an index beyond the count is accepted")
	}
	if m.parse([]byte{9, 1}) == nil {
		t.Error("an unknown kind is accepted")
	}
}

// FuzzMessages parses anything without panicking; what parses and is encoded again
// parses to the same.
func FuzzMessages(f *testing.F) {
	f.Add(golden(f, goldenOpenHex))
	f.Add(golden(f, goldenAnswerHex))
	f.Add(golden(f, goldenHelloHex))
	for _, c := range goldenDatagrams {
		f.Add(golden(f, c.hex))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, n, err := parseOpen(b); err == nil {
			if n > len(b) {
				t.Fatalf("open took %d of %d bytes", n, len(b))
			}
			again, _, err := parseOpen(m.Append(nil))
			if err != nil || cmp.Diff(m, again) != "" {
				t.Fatalf("open: %v, %s", err, cmp.Diff(m, again))
			}
		}
		if m, n, err := parseAnswer(b); err == nil {
			if n > len(b) {
				t.Fatalf("answer took %d of %d bytes", n, len(b))
			}
			again, _, err := parseAnswer(m.Append(nil))
			if err != nil || cmp.Diff(m, again) != "" {
				t.Fatalf("answer: %v, %s", err, cmp.Diff(m, again))
			}
		}
		if m, _, err := parseHello(b); err == nil {
			again, _, err := parseHello(m.Append(nil))
			if err != nil || cmp.Diff(m, again) != "" {
				t.Fatalf("hello: %v, %s", err, cmp.Diff(m, again))
			}
		}
		var m, again datagramMessage
		if m.parse(b) == nil {
			if err := again.parse(m.Append(nil)); err != nil || cmp.Diff(m, again) != "" {
				t.Fatalf("datagram: %v, %s", err, cmp.Diff(m, again))
			}
		}
	})
}

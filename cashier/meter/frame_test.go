package meter

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"scn.alt/scn/cashier/voucher"
)

func testFrames() map[string]frame {
	v := voucher.Voucher{Channel: voucher.ChannelID{1}, Sequence: 7, Amount: 100, Bytes: 1 << 20, Milliseconds: 12, Binding: [32]byte{2}}
	v.Sign(testKey(3), testNetwork)
	r := voucher.Receipt{Service: testKey(4).Service(), Nonce: [32]byte{5}, Sequence: 2, Sent: 10, Received: 20, Duration: 30, Final: true}
	r.Sign(testKey(2), testNetwork)
	return map[string]frame{
		"voucher":      {Type: typeVoucher, Voucher: v},
		"offer":        {Type: typeOffer, Voucher: v},
		"voucher ack":  {Type: typeVoucherAck, Ack: voucherAck{voucher.ChannelID{1}, 7, 99}},
		"receipts":     {Type: typeReceipts, Receipts: []voucher.Receipt{r, r, r, r, r}},
		"receipt acks": {Type: typeReceiptAcks, Acks: []receiptAck{{[32]byte{5}, 2, 20, 10}, {[32]byte{6}, 1, 0, 1}}},
		"claim":        {Type: typeClaim, Claim: claim{1 << 40, 77}},
		"refusal":      {Type: typeRefusal, Refusal: refusal{RefusedPrice, voucher.ChannelID{1}}},
	}
}

func TestFrames(t *testing.T) {
	for name, f := range testFrames() {
		t.Run(name, func(t *testing.T) {
			b := f.Append(nil)
			if len(b) > MaxFrame {
				t.Errorf("%d bytes", len(b))
			}
			got, err := parseFrame(b)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(f, got); diff != "" {
				t.Error(diff)
			}
			for n := range b {
				if _, err := parseFrame(b[:n]); err == nil {
					t.Errorf("the first %d of %d bytes are a frame", n, len(b))
				}
			}
			if _, err := parseFrame(append(b, 0)); err == nil {
				t.Error("a byte after the end goes unnoticed")
			}
			b[0]++
			if _, err := parseFrame(b); !errors.Is(err, ErrFrameVersion) {
				t.Errorf("another version: %v", err)
			}
			b[0]--
			b[1] = 0xee
			if _, err := parseFrame(b); !errors.Is(err, ErrFrameType) {
				t.Errorf("unknown type: %v", err)
			}
		})
	}
	for _, b := range [][]byte{{1, byte(typeReceipts), 0}, {1, byte(typeReceiptAcks), 255}, {1, byte(typeReceipts)}} {
		if _, err := parseFrame(b); !errors.Is(err, ErrFrameValue) {
			t.Errorf("%x: %v", b, err)
		}
	}
	if _, err := parseFrame(appendRefusal(nil, refusal{})); !errors.Is(err, ErrFrameValue) {
		t.Errorf("a refusal without reason: %v", err)
	}
}

func TestExtensions(t *testing.T) {
	v := testFrames()["voucher"].Voucher
	o := appendOpening(nil, v)
	if got, err := parseOpening(o); err != nil || got != v {
		t.Errorf("%+v, %v", got, err)
	}
	if first := appendOpening(nil, voucher.Voucher{Channel: v.Channel}); len(first) != len(o) {
		t.Error("the opening of a channel without voucher is told by its length")
	}
	ask := testChannel(testPrice, 1).Ask
	for _, a := range []accepting{{Ask: ask}, {Ask: ask, Has: hasVoucher, Newest: v}, {Ask: ask, Has: hasPending}, {Ask: ask, Has: hasRefused}} {
		b := a.Append(nil)
		got, err := parseAccepting(b)
		if err != nil || got != a {
			t.Errorf("%+v, %v", got, err)
		}
		for n := range b {
			if _, err := parseAccepting(b[:n]); err == nil {
				t.Errorf("the first %d of %d bytes are an acceptance", n, len(b))
			}
		}
		if _, err := parseAccepting(append(b, 0)); err == nil {
			t.Error("a byte after the end goes unnoticed")
		}
	}
}

func FuzzFrame(f *testing.F) {
	for _, fr := range testFrames() {
		f.Add(fr.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			return
		}
		if again := fr.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}

func FuzzExtension(f *testing.F) {
	v := testFrames()["voucher"].Voucher
	f.Add(appendOpening(nil, v))
	a := accepting{Ask: testChannel(testPrice, 1).Ask, Has: hasVoucher, Newest: v}
	f.Add(a.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if v, err := parseOpening(b); err == nil && !bytes.Equal(appendOpening(nil, v), b) {
			t.Errorf("%x is another opening when written again", b)
		}
		if a, err := parseAccepting(b); err == nil && !bytes.Equal(a.Append(nil), b) {
			t.Errorf("%x is another acceptance when written again", b)
		}
	})
}

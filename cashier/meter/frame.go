package meter

import (
	"encoding/binary"
	"errors"
	"fmt"

	"scn.alt/scn/cashier/voucher"
)

// MaxFrame is the largest frame.
const MaxFrame = 1200

// frameVersion is the first byte of every frame.
const frameVersion = 1

// frameType is the second byte of every frame. Append only.
type frameType byte

const (
	// between the two nodes
	typeVoucher     frameType = 1 // client: the newest voucher
	typeVoucherAck  frameType = 2 // provider: the newest it has accepted
	typeReceipts    frameType = 3 // provider: receipts of sessions
	typeReceiptAcks frameType = 4 // client: what it has, and its own counts
	// within one session
	typeOffer   frameType = 5 // client: the channel that pays for this session
	typeClaim   frameType = 6 // provider: what it has received, and the time
	typeRefusal frameType = 7 // provider: why it does not take a channel or voucher
)

// Refusal is why a provider does not go on. Append only.
type Refusal byte

// The refusals.
const (
	// RefusedNone is no refusal.
	RefusedNone Refusal = iota
	// RefusedUnknown means that the ledger has no such channel for this provider.
	RefusedUnknown
	// RefusedPrice means that the channel was opened at another price than is asked.
	RefusedPrice
	// RefusedExpired means that the channel is closing, or about to expire.
	RefusedExpired
	// RefusedDeposit means that the deposit is used up.
	RefusedDeposit
	// RefusedVoucher means that a voucher is not good.
	RefusedVoucher
	// RefusedDebt means that more was sent on the channel and never received than the
	// provider writes off.
	RefusedDebt
	// RefusedLedger means that the provider cannot ask the ledger now.
	RefusedLedger
	maxRefusal = RefusedLedger
)

var refusalTexts = [...]string{
	RefusedNone: "none", RefusedUnknown: "unknown channel", RefusedPrice: "another price", RefusedExpired: "expired",
	RefusedDeposit: "deposit used up", RefusedVoucher: "bad voucher", RefusedDebt: "too much not received", RefusedLedger: "ledger unreachable",
}

// String returns the refusal in words.
func (r Refusal) String() string {
	if int(r) < len(refusalTexts) {
		return refusalTexts[r]
	}
	return fmt.Sprintf("refusal %d", byte(r))
}

// The errors of the frames' parsers.
var (
	// ErrFrameVersion is returned for a frame of another version.
	ErrFrameVersion = errors.New("meter: frame of another version")
	// ErrFrameType is returned for a frame of an unknown type.
	ErrFrameType = errors.New("meter: frame of an unknown type")
	// ErrFrameLength is returned for a frame that is too short or too long.
	ErrFrameLength = errors.New("meter: wrong length of a frame")
	// ErrFrameValue is returned for a field that can have no such value.
	ErrFrameValue = errors.New("meter: value out of range in a frame")
)

// frame is one message between the meters of two nodes, at most MaxFrame bytes:
//
//	version (1) ‖ type (1) ‖ body
//
//	voucher       voucher
//	voucher ack   channel (32) ‖ sequence (8) ‖ milliseconds (8)
//	receipts      count (1) ‖ receipt …
//	receipt acks  count (1) ‖ { nonce (32) ‖ sequence (8) ‖ sent (8) ‖ received (8) } …
//	offer         voucher
//	claim         received (8) ‖ milliseconds (8)
//	refusal       why (1) ‖ channel (32)
//
// Lengths are exact: these are about money. Rules for adding a field: a new type; an
// unknown type is dropped and counted, so both may be sent for a while.
type frame struct {
	Type     frameType
	Voucher  voucher.Voucher
	Ack      voucherAck
	Receipts []voucher.Receipt
	Acks     []receiptAck
	Claim    claim
	Refusal  refusal
}

// voucherAck says which voucher of a channel the provider has accepted last, and how
// many milliseconds it counts on the channel.
type voucherAck struct {
	Channel      voucher.ChannelID
	Sequence     uint64
	Milliseconds uint64
}

// receiptAck says which receipt of a session the client has, and what the client
// counted: bytes it sent and bytes it received.
type receiptAck struct {
	Nonce          [32]byte
	Sequence       uint64
	Sent, Received uint64
}

// claim says what the provider has received in a session and how many milliseconds
// it counts on the session's channel.
type claim struct{ Received, Milliseconds uint64 }

// refusal says why the provider does not go on with a channel.
type refusal struct {
	Why     Refusal
	Channel voucher.ChannelID
}

const (
	voucherAckSize = 32 + 8 + 8
	receiptAckSize = 32 + 3*8
	claimSize      = 2 * 8
	refusalSize    = 1 + 32
	// maxReceipts is how many receipts fit into one frame; as many acks do.
	maxReceipts = (MaxFrame - 3) / voucher.ReceiptSize
)

func header(b []byte, t frameType) []byte { return append(b, frameVersion, byte(t)) }

func appendVoucher(b []byte, t frameType, v voucher.Voucher) []byte { return v.Append(header(b, t)) }

func appendVoucherAck(b []byte, a voucherAck) []byte {
	b = append(header(b, typeVoucherAck), a.Channel[:]...)
	b = binary.BigEndian.AppendUint64(b, a.Sequence)
	return binary.BigEndian.AppendUint64(b, a.Milliseconds)
}

// appendReceipts appends a frame of at most maxReceipts receipts.
func appendReceipts(b []byte, list []voucher.Receipt) []byte {
	b = append(header(b, typeReceipts), byte(len(list)))
	for i := range list {
		b = list[i].Append(b)
	}
	return b
}

// appendReceiptAcks appends a frame of at most maxReceipts acknowledgements.
func appendReceiptAcks(b []byte, list []receiptAck) []byte {
	b = append(header(b, typeReceiptAcks), byte(len(list)))
	for i := range list {
		b = append(b, list[i].Nonce[:]...)
		b = binary.BigEndian.AppendUint64(b, list[i].Sequence)
		b = binary.BigEndian.AppendUint64(b, list[i].Sent)
		b = binary.BigEndian.AppendUint64(b, list[i].Received)
	}
	return b
}

func appendClaim(b []byte, c claim) []byte {
	b = binary.BigEndian.AppendUint64(header(b, typeClaim), c.Received)
	return binary.BigEndian.AppendUint64(b, c.Milliseconds)
}

func appendRefusal(b []byte, r refusal) []byte {
	return append(append(header(b, typeRefusal), byte(r.Why)), r.Channel[:]...)
}

// Append appends the encoding.
func (f *frame) Append(b []byte) []byte {
	switch f.Type {
	case typeVoucherAck:
		return appendVoucherAck(b, f.Ack)
	case typeReceipts:
		return appendReceipts(b, f.Receipts)
	case typeReceiptAcks:
		return appendReceiptAcks(b, f.Acks)
	case typeClaim:
		return appendClaim(b, f.Claim)
	case typeRefusal:
		return appendRefusal(b, f.Refusal)
	case typeVoucher, typeOffer:
	}
	return appendVoucher(b, f.Type, f.Voucher)
}

// parseFrame reads a frame. Nothing in it aliases b, and nothing is verified.
func parseFrame(b []byte) (f frame, err error) {
	switch {
	case len(b) < 2 || len(b) > MaxFrame:
		return f, fmt.Errorf("%w: %d bytes", ErrFrameLength, len(b))
	case b[0] != frameVersion:
		return f, fmt.Errorf("%w: %d", ErrFrameVersion, b[0])
	}
	f.Type = frameType(b[1])
	b = b[2:]
	exactly := func(n int) error {
		if len(b) != n {
			return fmt.Errorf("%w: type %d with %d bytes, want %d", ErrFrameLength, f.Type, len(b), n)
		}
		return nil
	}
	switch f.Type {
	case typeVoucher, typeOffer:
		f.Voucher, err = voucher.ParseVoucher(b)
		return f, err
	case typeVoucherAck:
		if err := exactly(voucherAckSize); err != nil {
			return f, err
		}
		copy(f.Ack.Channel[:], b)
		f.Ack.Sequence, f.Ack.Milliseconds = binary.BigEndian.Uint64(b[32:]), binary.BigEndian.Uint64(b[40:])
	case typeReceipts:
		return f, f.parseReceipts(b)
	case typeReceiptAcks:
		return f, f.parseReceiptAcks(b)
	case typeClaim:
		if err := exactly(claimSize); err != nil {
			return f, err
		}
		f.Claim = claim{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
	case typeRefusal:
		if err := exactly(refusalSize); err != nil {
			return f, err
		}
		f.Refusal.Why = Refusal(b[0])
		copy(f.Refusal.Channel[:], b[1:])
		if f.Refusal.Why == RefusedNone {
			return f, fmt.Errorf("%w: a refusal without a reason", ErrFrameValue)
		}
	default:
		return f, fmt.Errorf("%w: %d", ErrFrameType, f.Type)
	}
	return f, nil
}

// list reads the count of a list and checks it against the length.
func list(b []byte, size int) (int, error) {
	if len(b) == 0 || b[0] == 0 || int(b[0]) > maxReceipts {
		return 0, fmt.Errorf("%w: a list of none, or of more than %d", ErrFrameValue, maxReceipts)
	}
	if n := int(b[0]); len(b) != 1+n*size {
		return 0, fmt.Errorf("%w: %d bytes for a list of %d", ErrFrameLength, len(b), n)
	}
	return int(b[0]), nil
}

func (f *frame) parseReceipts(b []byte) error {
	n, err := list(b, voucher.ReceiptSize)
	if err != nil {
		return err
	}
	f.Receipts = make([]voucher.Receipt, n)
	for i := range n {
		at := 1 + i*voucher.ReceiptSize
		if f.Receipts[i], err = voucher.ParseReceipt(b[at : at+voucher.ReceiptSize]); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) parseReceiptAcks(b []byte) error {
	n, err := list(b, receiptAckSize)
	if err != nil {
		return err
	}
	f.Acks = make([]receiptAck, n)
	for i := range n {
		at := b[1+i*receiptAckSize:]
		a := &f.Acks[i]
		copy(a.Nonce[:], at)
		a.Sequence, a.Sent = binary.BigEndian.Uint64(at[32:]), binary.BigEndian.Uint64(at[40:])
		a.Received = binary.BigEndian.Uint64(at[48:])
	}
	return nil
}

// An opening tells the provider which channel pays, and an acceptance what is asked.
//
//	opening     version (1) ‖ voucher                     nothing: no channel yet
//	accepting   version (1) ‖ ask ‖ has (1) ‖ [voucher]   nothing: free
//
// The voucher of an opening has sequence 0 and no signature where none was signed yet;
// so all openings of clients that pay are of one length, whoever they are. The voucher
// of an acceptance is the newest the provider holds of the channel offered; has is 2
// when it does not know that channel yet, and 3 when it does not take it.
type accepting struct {
	Ask    voucher.Ask
	Has    byte
	Newest voucher.Voucher
}

// The values of accepting.Has.
const (
	hasNothing = 0 // no channel was offered
	hasVoucher = 1
	hasPending = 2
	hasRefused = 3
)

func appendOpening(b []byte, v voucher.Voucher) []byte { return v.Append(append(b, frameVersion)) }

func parseOpening(b []byte) (voucher.Voucher, error) {
	if len(b) == 0 {
		return voucher.Voucher{}, ErrFrameLength
	}
	if b[0] != frameVersion {
		return voucher.Voucher{}, fmt.Errorf("%w: %d", ErrFrameVersion, b[0])
	}
	return voucher.ParseVoucher(b[1:])
}

func (a *accepting) Append(b []byte) []byte {
	b = append(a.Ask.Append(append(b, frameVersion)), a.Has)
	if a.Has == hasVoucher {
		return a.Newest.Append(b)
	}
	return b
}

func parseAccepting(b []byte) (a accepting, err error) {
	const fixed = 1 + voucher.AskSize + 1
	if len(b) < fixed {
		return a, fmt.Errorf("%w: acceptance of %d bytes", ErrFrameLength, len(b))
	}
	if b[0] != frameVersion {
		return a, fmt.Errorf("%w: %d", ErrFrameVersion, b[0])
	}
	if a.Ask, err = voucher.ParseAsk(b[1 : 1+voucher.AskSize]); err != nil {
		return a, err
	}
	a.Has = b[fixed-1]
	switch rest := b[fixed:]; {
	case a.Has == hasVoucher:
		a.Newest, err = voucher.ParseVoucher(rest)
		return a, err
	case a.Has > hasRefused:
		return a, fmt.Errorf("%w: %d", ErrFrameValue, a.Has)
	case len(rest) > 0:
		return a, fmt.Errorf("%w: bytes after an acceptance", ErrFrameLength)
	}
	return a, nil
}

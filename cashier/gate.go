package cashier

import (
	"context"
	"runtime"

	"scn.alt/scn/routing/identity"
)

// maxSignatureBatch is how many signatures are verified together. Beyond it a
// batch gains little, and those in it wait longer.
const maxSignatureBatch = 128

// gate verifies the signatures of submitted transactions, those that wait together
// in one batch: at half the cost of one by one, and with the same verdicts. It
// waits for nobody: a lone transaction is verified at once.
type gate struct {
	waiting chan *applicant
	stop    <-chan struct{}
}

// applicant is a decoded transaction whose signature is to be verified.
type applicant struct {
	envelope identity.Envelope
	verdict  chan bool // one verdict, buffered
}

func newGate(stop <-chan struct{}) *gate {
	return &gate{waiting: make(chan *applicant, 4*maxSignatureBatch), stop: stop}
}

// workers is how many goroutines should run the gate.
func (g *gate) workers() int { return max(1, runtime.GOMAXPROCS(0)) }

// run verifies until the gate is stopped.
func (g *gate) run() {
	batch := make([]*applicant, 0, maxSignatureBatch)
	for {
		select {
		case <-g.stop:
			return
		case a := <-g.waiting:
			batch = append(batch[:0], a)
		}
		// Whoever is ready to submit does so first: then a batch is made of them. Where
		// nobody is, this costs nothing.
		runtime.Gosched()
	gather:
		for len(batch) < maxSignatureBatch {
			select {
			case a := <-g.waiting:
				batch = append(batch, a)
			default:
				break gather
			}
		}
		g.judge(batch)
	}
}

func (g *gate) judge(batch []*applicant) {
	if len(batch) == 1 {
		e := &batch[0].envelope
		batch[0].verdict <- identity.Verify(e.Signer, domain, typeTransaction, e.Payload, e.Signature)
		return
	}
	var signatures identity.Batch
	for _, a := range batch {
		e := &a.envelope
		signatures.Add(e.Signer, domain, typeTransaction, e.Payload, e.Signature)
	}
	all, each := signatures.Verify()
	for i, a := range batch {
		a.verdict <- all || each[i]
	}
}

// open is OpenTransaction through the gate.
func (g *gate) open(ctx context.Context, network identity.NetworkID, signed []byte) (Transaction, error) {
	tx, e, err := decodeTransaction(network, signed)
	if err != nil {
		return Transaction{}, err
	}
	a := &applicant{e, make(chan bool, 1)}
	select {
	case g.waiting <- a:
	case <-g.stop:
		return Transaction{}, ErrClosed
	case <-ctx.Done():
		return Transaction{}, ctx.Err()
	}
	select {
	case good := <-a.verdict:
		if !good {
			return Transaction{}, &Rejection{Code: BadSignature}
		}
	case <-g.stop:
		return Transaction{}, ErrClosed
	case <-ctx.Done():
		return Transaction{}, ctx.Err()
	}
	if r := tx.Operation.check(&tx); r != nil {
		return Transaction{}, r
	}
	return tx, nil
}

package market

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"time"

	"scn.alt/scn/cashier/voucher"
	"scn.alt/scn/routing/identity"
)

// Policy is how a client chooses among providers.
type Policy uint8

// The policies.
const (
	// Weighted takes the owner's priorities and weights, the weights divided by the
	// price: a provider at twice the price gets half its share. It is the default.
	Weighted Policy = iota
	// Cheapest takes the lowest price first, and among equals the owner's wish.
	Cheapest
	// Fastest takes the shortest round trip first; those not measured yet come after
	// the others.
	Fastest
	// Score takes the best score of the inspectors first; scores within a fiftieth of
	// each other are alike, so that the best does not get everybody.
	Score
	// ScorePerPrice takes the most score for the money first; among those that ask
	// nothing it is Score.
	ScorePerPrice
)

// What is made of scores, in millionths.
const (
	// unscored is the score of a provider nobody looked at: that of a new one.
	unscored = 629_151
	// alike is by how much scores may differ that rank the same.
	alike = 20_000
)

// ErrPolicy is returned for the name of no policy.
var ErrPolicy = errors.New("market: the policies are weighted, cheapest, fastest, score and score-per-price")

// ParsePolicy reads a policy's name.
func ParsePolicy(s string) (Policy, error) {
	for _, p := range [...]Policy{Weighted, Cheapest, Fastest, Score, ScorePerPrice} {
		if p.String() == s {
			return p, nil
		}
	}
	return 0, fmt.Errorf("%q: %w", s, ErrPolicy)
}

// String returns the policy's name.
func (p Policy) String() string {
	switch p {
	case Cheapest:
		return "cheapest"
	case Fastest:
		return "fastest"
	case Score:
		return "score"
	case ScorePerPrice:
		return "score-per-price"
	case Weighted:
	}
	return "weighted"
}

// Offer is a provider to choose from. Order sets Rank and Weight.
type Offer struct {
	Node identity.NodeID
	// Price is zero where it asks nothing, or nothing is known.
	Price voucher.Price
	// RTT is 0 where it was not measured.
	RTT time.Duration
	// Weight is the owner's. Where all weights are zero, the nearest is taken.
	Weight uint16
	// Score in millionths is the inspectors', if Scored. Suspended providers come last
	// whatever the policy.
	Score             uint32
	Scored, Suspended bool
	// Rank comes before the owner's priority: the lowest first.
	Rank uint64
}

// Order ranks and weighs the offers of one service.
func (p Policy) Order(offers []Offer) {
	switch p {
	case Cheapest:
		for i := range offers {
			offers[i].Rank = uint64(Compared(offers[i].Price))
		}
	case Fastest:
		for i := range offers {
			offers[i].Rank = math.MaxUint64
			if rtt := offers[i].RTT; rtt > 0 {
				offers[i].Rank = uint64(rtt)
			}
		}
	case Score:
		for i := range offers {
			offers[i].Rank = offers[i].badness()
		}
	case ScorePerPrice:
		for i := range offers {
			if price := Compared(offers[i].Price); price > 0 {
				// Free ones come before all others.
				offers[i].Rank = millionth + perScore(price, offers[i].score())
				continue
			}
			offers[i].Rank = offers[i].badness()
		}
	case Weighted:
		weigh(offers)
	}
	for i := range offers {
		if offers[i].Suspended {
			offers[i].Rank = math.MaxUint64
		}
	}
}

const millionth = 1_000_000

func (o *Offer) score() uint32 {
	if !o.Scored {
		return unscored
	}
	return min(o.Score, millionth)
}

// badness ranks by score alone.
func (o *Offer) badness() uint64 { return uint64(millionth-o.score()) / alike }

// perScore is what a whole score costs.
func perScore(price voucher.Amount, score uint32) uint64 {
	high, low := bits.Mul64(uint64(price), millionth)
	if d := uint64(max(score, 1)); high < d {
		cost, _ := bits.Div64(high, low, d)
		return min(cost, math.MaxUint64/2)
	}
	return math.MaxUint64 / 2
}

// weigh divides each weight by the price, in units of the cheapest.
func weigh(offers []Offer) {
	least := voucher.MaxAmount
	for _, o := range offers {
		least = min(least, Compared(o.Price))
	}
	for i := range offers {
		price := Compared(offers[i].Price)
		if price == least || offers[i].Weight == 0 {
			continue
		}
		// weight·least/price < weight, as least < price.
		high, low := bits.Mul64(uint64(offers[i].Weight), uint64(least))
		share, _ := bits.Div64(high, low, uint64(price))
		offers[i].Weight = uint16(share)
	}
}

// Compared is the amount by which prices of two parts are compared: a GiB in an hour.
func Compared(p voucher.Price) voucher.Amount {
	if sum, ok := p.PerGiB.Add(p.PerHour); ok {
		return sum
	}
	return voucher.MaxAmount
}

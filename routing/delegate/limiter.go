package delegate

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxPeers is how many peers a limiter remembers at least, and half of how many at
// most.
const maxPeers = 4096

// limiter holds back peers that ask too often. Its memory is bounded: two
// generations, of which the older is forgotten when the younger is full.
type limiter struct {
	rate  rate.Limit
	burst int

	mu         sync.Mutex
	young, old map[string]*allowance // guarded by mu
}

// allowance is one peer's.
type allowance struct {
	requests *rate.Limiter
	open     int // guarded by limiter.mu
}

func newLimiter(perSecond float64, burst int) *limiter {
	return &limiter{rate: rate.Limit(perSecond), burst: burst, young: map[string]*allowance{}}
}

// enter takes one request from the peer's allowance, unless it has most open.
func (l *limiter) enter(peer string, most int, now time.Time) (*allowance, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.young[peer]
	if !ok {
		if p, ok = l.old[peer]; !ok {
			p = &allowance{requests: rate.NewLimiter(l.rate, l.burst)}
		}
		if len(l.young) >= maxPeers {
			l.old, l.young = l.young, make(map[string]*allowance, maxPeers)
		}
		l.young[peer] = p
	}
	if p.open >= most || !p.requests.AllowN(now, 1) {
		return nil, false
	}
	p.open++
	return p, true
}

// leave ends what enter began.
func (l *limiter) leave(p *allowance) {
	l.mu.Lock()
	defer l.mu.Unlock()
	p.open--
}

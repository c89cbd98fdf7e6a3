package main

import "math"

// chain is the exact Markov chain of a CUSUM that restarts: the state is its sum,
// each check fails with probability p, adds fail or takes 1, and h absorbs.
type chain struct {
	fail, h int
	p       float64
}

// mean returns the expected number of checks until the alarm, from 0.
func (c chain) mean() float64 {
	// E[s] = 1 + p·E[s+fail] + (1−p)·E[max(s−1, 0)], by elimination.
	n := c.h
	m := make([][]float64, n)
	for s := range m {
		m[s] = make([]float64, n+1)
		m[s][s], m[s][n] = 1, 1
		if s+c.fail < n {
			m[s][s+c.fail] -= c.p
		}
		m[s][max(s-1, 0)] -= 1 - c.p
	}
	for i := range n {
		pivot := i
		for r := i; r < n; r++ {
			if math.Abs(m[r][i]) > math.Abs(m[pivot][i]) {
				pivot = r
			}
		}
		m[i], m[pivot] = m[pivot], m[i]
		for r := i + 1; r < n; r++ {
			if f := m[r][i] / m[i][i]; f != 0 {
				for k := i; k <= n; k++ {
					m[r][k] -= f * m[i][k]
				}
			}
		}
	}
	x := make([]float64, n)
	for i := n - 1; i >= 0; i-- {
		x[i] = m[i][n]
		for k := i + 1; k < n; k++ {
			x[i] -= m[i][k] * x[k]
		}
		x[i] /= m[i][i]
	}
	return x[0]
}

// quantile returns after how many checks the alarm has come with probability q.
func (c chain) quantile(q float64) int {
	now, next := make([]float64, c.h), make([]float64, c.h)
	now[0] = 1
	alarmed := 0.0
	for n := 1; n < 10_000_000; n++ {
		clear(next)
		for s, w := range now {
			next[max(s-1, 0)] += w * (1 - c.p)
			if s+c.fail < c.h {
				next[s+c.fail] += w * c.p
			} else {
				alarmed += w * c.p
			}
		}
		now, next = next, now
		if alarmed >= q {
			return n
		}
	}
	return math.MaxInt
}

// standing returns the expected number of checks until as many in a row are good as
// it takes to clear an alarm.
func (c chain) standing(inARow int) float64 {
	if c.p == 0 {
		return float64(inARow)
	}
	return (math.Pow(1-c.p, -float64(inARow)) - 1) / c.p
}

// suspensions returns how often per check of one operator more than half of n
// operators have a standing alarm at once, while liars of them always have: the
// rate of entering that state, of independent chains.
func (c chain) suspensions(n, liars, inARow int) float64 {
	rate := 1 / c.mean()
	q := min(rate*c.standing(inARow), 1) // the share of time an alarm stands
	honest, need := n-liars, n/2+1-liars
	if need <= 0 {
		return math.Inf(1)
	}
	choose := 1.0
	for i := range need - 1 {
		choose = choose * float64(honest-1-i) / float64(i+1)
	}
	return float64(honest) * rate * choose * math.Pow(q, float64(need-1)) * math.Pow(1-q, float64(honest-need))
}

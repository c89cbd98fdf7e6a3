package evidence

import (
	"cmp"
	"slices"
)

// Median returns the lower median of values, and 0 of none. It does not change
// values.
func Median(values []uint32) uint32 { return Quantile(values, 500_000) }

// Quantile returns the smallest value that at least share, in millionths, of the
// values are not above, and 0 of none.
func Quantile(values []uint32, share uint32) uint32 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := (uint64(len(sorted))*uint64(min(share, million)) + million - 1) / million
	return sorted[max(rank, 1)-1]
}

// MAD returns the median of the distances from the median.
func MAD(values []uint32) uint32 {
	middle := Median(values)
	distances := make([]uint32, len(values))
	for i, v := range values {
		distances[i] = max(v, middle) - min(v, middle)
	}
	return Median(distances)
}

// MinHistory is how many values it takes to call another one anomalous.
const MinHistory = 16

// Anomalous reports whether v is further from the median of a provider's own
// history than normal noise takes a value once in 30,000 times: six times the MAD,
// which is four standard deviations of a normal distribution. A history without
// any spread is given a thirty-second of its median.
func Anomalous(history []uint32, v uint32) bool {
	if len(history) < MinHistory {
		return false
	}
	middle := Median(history)
	spread := max(MAD(history), middle/32, 1)
	return uint64(max(v, middle)-min(v, middle)) > 6*uint64(spread)
}

// weighted is a value with the weight of who holds it.
type weighted struct {
	value  uint32
	weight uint64
}

// weightedMedian returns the smallest value that at least half of the weight is not
// above. It sorts values.
func weightedMedian(values []weighted) uint32 {
	slices.SortFunc(values, func(a, b weighted) int { return cmp.Compare(a.value, b.value) })
	var sum uint64
	for _, v := range values {
		sum += v.weight
	}
	var below uint64
	for _, v := range values {
		if below += v.weight; below >= sum-below {
			return v.value
		}
	}
	return 0
}

// maxWeight is the largest weight: any number of operators fits a sum.
const maxWeight = 1 << 44

// CapWeights lowers the largest weights until none is above share, in millionths,
// of their sum. Where there are too few for that all are made equal. No weight
// becomes 0, so a network without stakes counts heads.
func CapWeights(weights []uint64, share uint32) {
	var sum uint64
	for i, w := range weights {
		weights[i] = min(max(w, 1), maxWeight)
		sum += weights[i]
	}
	sorted := slices.Clone(weights)
	slices.Sort(sorted)
	slices.Reverse(sorted)
	rest := sum
	for j, w := range sorted {
		used := uint64(j) * uint64(share)
		if used >= million {
			break
		}
		// The j largest are capped to c each, which is to be share of j·c + rest.
		c := max(mulDiv(rest, uint64(share), million-used), 1)
		if w <= c {
			for i := range weights {
				weights[i] = min(weights[i], c)
			}
			return
		}
		rest -= w
	}
	for i := range weights {
		weights[i] = 1
	}
}

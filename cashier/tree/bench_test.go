package tree

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"
)

func benchKey(i int) []byte {
	b := make([]byte, 33)
	b[0] = 'b'
	binary.BigEndian.PutUint64(b[1:], uint64(i)*0x9e3779b97f4a7c15)
	return b
}

// cpuTime is what this process has computed, which says more than the clock on a
// machine that has other things to do.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func filled(n int) *Map {
	m := new(Map)
	const batch = 1 << 15
	for from := 0; from < n; from += batch {
		changes := make([]Change, 0, batch)
		for i := from; i < min(n, from+batch); i++ {
			changes = append(changes, Put(benchKey(i), make([]byte, 32)))
		}
		m.Stage(changes)
		m.Commit()
	}
	return m
}

// What a block of 4096 transfers among 8192 accounts costs the tree, how long one
// takes to build, what it holds in memory and how large its proofs are.
func BenchmarkMap(b *testing.B) {
	for _, size := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", size), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			start := time.Now()
			m := filled(size)
			built := time.Since(start)
			runtime.GC()
			runtime.ReadMemStats(&after)
			const touched = 8192
			changes := make([]Change, 0, touched)
			cpu := cpuTime(b)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				changes = changes[:0]
				for i := range min(size, touched) {
					var v [32]byte
					binary.BigEndian.PutUint64(v[:], uint64(n)+1)
					changes = append(changes, Put(benchKey((i*7919+n*104729)%size), v[:]))
				}
				m.Stage(changes)
				m.Commit()
				n++
			}
			cpu = cpuTime(b) - cpu
			b.ReportMetric(float64(cpu.Nanoseconds())/float64(n*min(size, touched)), "cpu-ns/update")
			var sizes []int
			for i := range 1000 {
				sizes = append(sizes, len(m.Prove(benchKey(i)).Append(nil)))
			}
			slices.Sort(sizes)
			b.ReportMetric(float64(n*min(size, touched))/b.Elapsed().Seconds(), "updates/s")
			b.ReportMetric(float64(built.Milliseconds()), "build-ms")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
			b.ReportMetric(float64(sizes[len(sizes)/2]), "proof-bytes")
			b.ReportMetric(float64(sizes[len(sizes)-1]), "longest-proof")
		})
	}
}

func BenchmarkProof(b *testing.B) {
	m := filled(1_000_000)
	k, v, root := benchKey(77), make([]byte, 32), m.Root()
	b.Run("prove", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			m.Prove(k)
		}
	})
	p := m.Prove(k)
	b.Run("verify", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := p.Present(root, k, v); err != nil {
				b.Fatal(err)
			}
		}
	})
}

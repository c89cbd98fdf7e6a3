package underlay

import (
	"fmt"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"scn.alt/scn/sal/relay"
)

// payloadAt is where the UDP payload begins for a filter on a UDP socket: it sees the
// UDP header too.
const payloadAt = 8

// sieveProgram drops datagrams to be forwarded whose token was not made with the
// sieve; without one, as on a node that is no relay, all of them. Everything else
// passes.
func sieveProgram(sieve *relay.Sieve) []bpf.Instruction {
	const token = payloadAt + 1
	accept, drop := bpf.RetConstant{Val: 1 << 30}, bpf.RetConstant{Val: 0}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: payloadAt, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: relay.TypeForward, SkipTrue: 1},
		accept,
	}
	if sieve == nil {
		return append(program, drop)
	}
	keys := sieve.Keys()
	fold := func(shift uint32) []bpf.Instruction { // x ^= x >> shift
		return []bpf.Instruction{
			bpf.StoreScratch{Src: bpf.RegA, N: 0},
			bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: shift},
			bpf.TAX{},
			bpf.LoadScratch{Dst: bpf.RegA, N: 0},
			bpf.ALUOpX{Op: bpf.ALUOpXor},
		}
	}
	program = append(program,
		bpf.LoadAbsolute{Off: token, Size: 4},
		bpf.ALUOpConstant{Op: bpf.ALUOpXor, Val: keys[0]},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: keys[1]})
	program = append(program, fold(15)...)
	program = append(program,
		bpf.StoreScratch{Src: bpf.RegA, N: 0},
		bpf.LoadAbsolute{Off: token + 4, Size: 1},
		bpf.TAX{},
		bpf.LoadScratch{Dst: bpf.RegA, N: 0},
		bpf.ALUOpX{Op: bpf.ALUOpAdd},
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: keys[2]})
	program = append(program, fold(13)...)
	return append(program,
		bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: keys[3]},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 16},
		bpf.TAX{},
		bpf.LoadAbsolute{Off: token + 5, Size: 2},
		bpf.JumpIfX{Cond: bpf.JumpEqual, SkipTrue: 1},
		drop,
		accept)
}

// attachSieve has the kernel drop what strangers ask to be forwarded, before it takes
// a place in the socket's buffer or wakes anybody.
func (s *Socket) attachSieve() error {
	var sieve *relay.Sieve
	if s.forwarder != nil {
		sieve = &s.forwarder.sieve
	}
	raw, err := bpf.Assemble(sieveProgram(sieve))
	if err != nil {
		return fmt.Errorf("underlay: assemble filter: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: unsafe.SliceData(filter)}
	var failed error
	if err := s.raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
	}); err != nil {
		return err
	}
	if failed != nil {
		return fmt.Errorf("underlay: attach filter: %w", failed)
	}
	return nil
}

// kernelDrops returns how many datagrams for this socket the kernel dropped.
func (s *Socket) kernelDrops() uint64 {
	var info [unix.SK_MEMINFO_VARS]uint32
	size := uint32(unsafe.Sizeof(info))
	var errno unix.Errno
	err := s.raw.Control(func(fd uintptr) {
		_, _, errno = unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err != nil || errno != 0 {
		return 0
	}
	return uint64(info[unix.SK_MEMINFO_DROPS])
}

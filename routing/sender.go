package routing

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/multiformats/go-varint"
	"google.golang.org/protobuf/proto"
)

// maxMessage bounds an answer. The largest is a network file with 20 peers of some
// addresses each.
const maxMessage = 256 << 10

// sender sends DHT requests, one stream each. kad-dht's own serialises the requests
// to a peer and lets a silent one hold each up for 10 s; here every request has one
// short deadline, dialling included, and none waits for another.
type sender struct {
	host      host.Host
	protocols []protocol.ID
	timeout   time.Duration
}

var _ pb.MessageSenderWithDisconnect = (*sender)(nil)

// SendRequest implements pb.MessageSender.
func (s *sender) SendRequest(ctx context.Context, p peer.ID, request *pb.Message) (*pb.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	start := time.Now()
	stream, err := s.send(ctx, p, request)
	if err != nil {
		return nil, err
	}
	// A read ends when ctx does: the stream is reset under it.
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	answer, err := readMessage(stream)
	if err != nil {
		_ = stream.Reset()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, err
	}
	_ = stream.Close()
	s.host.Peerstore().RecordLatency(p, time.Since(start))
	if t, ok := ctx.Value(tallyKey{}).(*tally); ok {
		t.answers.Add(1)
	}
	return answer, nil
}

// SendMessage implements pb.MessageSender.
func (s *sender) SendMessage(ctx context.Context, p peer.ID, message *pb.Message) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	stream, err := s.send(ctx, p, message)
	if err != nil {
		return err
	}
	return stream.Close()
}

// OnDisconnect implements pb.MessageSenderWithDisconnect: no stream is kept.
func (s *sender) OnDisconnect(context.Context, peer.ID) {}

// send opens a stream and writes one message. The caller closes the stream.
func (s *sender) send(ctx context.Context, p peer.ID, m *pb.Message) (network.Stream, error) {
	body, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	stream, err := s.host.NewStream(ctx, p, s.protocols...)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = stream.SetDeadline(deadline)
	}
	frame := append(varint.ToUvarint(uint64(len(body))), body...)
	if _, err := stream.Write(frame); err != nil {
		_ = stream.Reset()
		return nil, err
	}
	return stream, nil
}

// readMessage reads one length-prefixed message, bounded before it allocates.
func readMessage(stream network.Stream) (*pb.Message, error) {
	size, err := varint.ReadUvarint(&byteReader{stream: stream})
	if err != nil {
		return nil, err
	}
	if size > maxMessage {
		return nil, fmt.Errorf("routing: answer of %d bytes, at most %d", size, maxMessage)
	}
	body := make([]byte, size)
	for read := 0; read < len(body); {
		n, err := stream.Read(body[read:])
		read += n
		if err != nil && read < len(body) {
			return nil, errors.Join(errors.New("routing: answer cut short"), err)
		}
	}
	m := new(pb.Message)
	if err := proto.Unmarshal(body, m); err != nil {
		return nil, err
	}
	return m, nil
}

// byteReader reads single bytes, for the length only.
type byteReader struct {
	stream network.Stream
	one    [1]byte
}

// ReadByte implements io.ByteReader.
func (r *byteReader) ReadByte() (byte, error) {
	for {
		n, err := r.stream.Read(r.one[:])
		if n == 1 {
			return r.one[0], nil
		}
		if err != nil {
			return 0, err
		}
	}
}

package main

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"scn.alt/scn/conformance/netns"
	"scn.alt/scn/conformance/overlay"
)

// fileServer serves a directory on hosts, as fast as it is asked.
type fileServer struct {
	wg      sync.WaitGroup
	servers []*http.Server
}

func (f *fileServer) serve(h *netns.Host, address, dir string) error {
	l, err := h.Listen("tcp", address)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: 10 * time.Second}
	f.servers = append(f.servers, s)
	f.wg.Go(func() { // ends with Close
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			overlay.DemoFailed("file server: %w", err)
		}
	})
	return nil
}

// Close ends the servers and waits for them.
func (f *fileServer) Close() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // whoever still downloads has lost
	for _, s := range f.servers {
		_ = s.Shutdown(ctx)
		_ = s.Close()
	}
	f.wg.Wait()
}

package node

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"time"

	"scn.alt/scn/naming/name"
	"scn.alt/scn/proofofservice"
	"scn.alt/scn/proofofservice/evidence"
	"scn.alt/scn/routing/identity"
)

// How long is believed what a service publishes, or that it publishes nothing, and how
// long it is asked for.
const (
	contentFresh   = time.Hour
	contentMissing = time.Minute
	contentTimeout = 5 * time.Second
	// maxContents bounds the services of which it is kept.
	maxContents = 4096
)

// contents knows what services publish of themselves. It asks them over HTTP, any of
// their providers, and believes what is signed with the service's key; of two it
// believes the later one.
type contents struct {
	n    *Node
	port uint16

	mu      sync.Mutex // guards below
	entries map[identity.ServiceID]*publishedContent
}

type publishedContent struct {
	turn chan struct{} // held while the service is asked; cap 1

	// guarded by contents.mu
	manifest *proofofservice.Manifest
	next     time.Time // when to ask again
}

var _ proofofservice.Catalog = (*contents)(nil)

// Content implements proofofservice.Catalog.
func (c *contents) Content(ctx context.Context, service identity.ServiceID) (proofofservice.Content, bool, error) {
	c.mu.Lock()
	e := c.entries[service]
	if e == nil {
		if len(c.entries) >= maxContents {
			for old := range c.entries { // any: it is asked for again
				delete(c.entries, old)
				break
			}
		}
		e = &publishedContent{turn: make(chan struct{}, 1)}
		c.entries[service] = e
	}
	c.mu.Unlock()
	select {
	case e.turn <- struct{}{}:
		defer func() { <-e.turn }()
	case <-ctx.Done():
		return proofofservice.Content{}, false, context.Cause(ctx)
	}
	c.refresh(ctx, service, e)
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.manifest == nil {
		return proofofservice.Content{}, false, nil
	}
	return e.manifest.Content, true, nil
}

// refresh asks the service when it is time to.
func (c *contents) refresh(ctx context.Context, service identity.ServiceID, e *publishedContent) {
	c.mu.Lock()
	known, due := e.manifest, !c.n.Now().Before(e.next)
	c.mu.Unlock()
	if !due {
		return
	}
	if known == nil {
		known = c.load(service)
	}
	wait := contentFresh
	m, err := c.fetch(ctx, service)
	switch {
	case err != nil:
		wait = contentMissing
		c.n.log.Debug("no published content", "service", service.Short(), "err", err)
	case known == nil || m.Sequence > known.Sequence:
		known = &m
		if err := c.n.dir.write(c.file(service), m.Append(nil), 0o600); err != nil {
			c.n.log.Warn("published content not kept", "service", service.Short(), "err", err)
		}
	}
	c.mu.Lock()
	e.manifest, e.next = known, c.n.Now().Add(wait)
	c.mu.Unlock()
}

func (c *contents) file(service identity.ServiceID) string {
	return filepath.Join(stateDir, "content", hex.EncodeToString(service[:]))
}

// load reads what was published when this node ran last.
func (c *contents) load(service identity.ServiceID) *proofofservice.Manifest {
	b, err := readBounded(c.n.dir.join(c.file(service)), proofofservice.MaxManifest)
	if err != nil {
		return nil
	}
	m, err := proofofservice.ParseManifest(c.n.Network().ID, b)
	if err != nil || m.Service != service {
		return nil
	}
	return &m
}

func (c *contents) fetch(ctx context.Context, service identity.ServiceID) (m proofofservice.Manifest, err error) {
	ctx, cancel := context.WithTimeout(ctx, contentTimeout)
	defer cancel()
	s, err := c.n.sal.Dial(ctx, service, c.port)
	if err != nil {
		return m, err
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })()
	request := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: proofofservice.ManifestPath}, Host: service.String() + "." + c.n.names.Zone(), Close: true,
		Header: http.Header{"Accept": {"*/*"}},
	}
	if err := request.Write(s); err != nil {
		return m, err
	}
	response, err := http.ReadResponse(bufio.NewReader(s), request)
	if err != nil {
		return m, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return m, fmt.Errorf("%s: %s", proofofservice.ManifestPath, response.Status)
	}
	b, err := io.ReadAll(io.LimitReader(response.Body, proofofservice.MaxManifest+1))
	if err != nil {
		return m, err
	}
	if m, err = proofofservice.ParseManifest(c.n.Network().ID, b); err == nil && m.Service != service {
		err = proofofservice.ErrManifestSignature
	}
	return m, err
}

// PublishContent makes what a service's owner offers to be checked: a manifest of a
// file that all its providers serve over HTTP at port and path. It is to be served at
// proofofservice.ManifestPath. The service's key must be in the directory.
func (d Directory) PublishContent(nm name.Name, file io.Reader, port uint16, host, path string, now time.Time) ([]byte, error) {
	key, err := d.ServiceKey(string(nm))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", nm, ErrNotOwned)
	}
	if err != nil {
		return nil, err
	}
	network, _, err := d.Network()
	if err != nil {
		return nil, err
	}
	m := proofofservice.Manifest{Sequence: uint64(now.UnixMilli()), Content: proofofservice.Content{Port: port, Host: host, Path: path, Block: publishedBlock}}
	block := make([]byte, publishedBlock)
	for {
		n, err := io.ReadFull(file, block)
		if n > 0 {
			m.Content.Size += int64(n)
			m.Content.Leaves = append(m.Content.Leaves, evidence.LeafHash(block[:n]))
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if m.Content.Size > proofofservice.MaxPublished {
			return nil, fmt.Errorf("%w: more than %d bytes", ErrRequest, int64(proofofservice.MaxPublished))
		}
	}
	m.Content.Root = evidence.MerkleRoot(m.Content.Leaves)
	if err := m.Sign(key, network.ID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	return m.Append(nil), nil
}

// publishedBlock is the size of a block in bytes: large enough that hashes are few,
// small enough for a probe.
const publishedBlock = 16 << 10

package routing

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// freshFor is how long a record found is served without asking again. A move is
// heard from the peer itself, not from here, so this bounds DHT traffic only.
const freshFor = 30 * time.Second

// entry is a record found earlier.
type entry struct {
	value  []byte
	opened opened
	// checked is when the DHT was last asked.
	checked time.Time
}

// stale reports whether an answer from the entry should be followed by a lookup.
func (e entry) stale() bool { return time.Since(e.checked) > freshFor }

// cache remembers the newest version of each record this node looked up. What is
// in it passed the validator once; whether it is still in time is for the reader
// to judge: an expired locator may be probed, an expired grant may not be used.
type cache struct {
	mu      sync.Mutex
	entries *lru.Cache[string, entry] // guarded by mu, for read-compare-write
}

func newCache(size int) (*cache, error) {
	entries, err := lru.New[string, entry](size)
	if err != nil {
		return nil, err
	}
	return &cache{entries: entries}, nil
}

func (c *cache) get(key string) (entry, bool) {
	return c.entries.Get(key)
}

// put remembers a value unless a newer one is known, and reports whether it is
// news.
func (c *cache) put(key string, value []byte, o opened) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries.Get(key)
	news := !ok || compare(o, value, e.opened, e.value) > 0
	if news {
		e.value, e.opened = value, o
	}
	e.checked = time.Now()
	c.entries.Add(key, e)
	return news
}

// touch notes that the DHT was asked and had nothing newer.
func (c *cache) touch(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries.Peek(key); ok {
		e.checked = time.Now()
		c.entries.Add(key, e)
	}
}

// forget drops one record, so that what is there after the next lookup came of it.
func (c *cache) forget(key string) { c.entries.Remove(key) }

func (c *cache) purge() { c.entries.Purge() }

func (c *cache) len() int { return c.entries.Len() }

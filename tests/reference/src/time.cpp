#include <chrono>
extern "C" long tiny_now(void);
extern "C" long tiny_now(void)
{
	return (long)std::chrono::steady_clock::now().time_since_epoch().count();
}

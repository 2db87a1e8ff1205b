/** @file
  SerialPortLib over FFA_CONSOLE_LOG (DEN0077A section 13.14), by SVC.

  The MM core prints before its own .data is writable, so nothing here has state. Characters that the SPMC does not take
  are lost: a console must not stop a partition.
**/

#include <Base.h>

#include <IndustryStandard/ArmFfaSvc.h>
#include <Library/ArmSvcLib.h>
#include <Library/SerialPortLib.h>

/// Characters in x2 to x7, which is what ArmCallSvc passes.
#define MAX_CHARACTERS  (6 * sizeof (UINT64))

/**
  Does nothing: there is nothing to set up.

  @retval RETURN_SUCCESS  Always.
**/
RETURN_STATUS
EFIAPI
SerialPortInitialize (
  VOID
  )
{
  return RETURN_SUCCESS;
}

/**
  Hands characters to the SPMC.

  @param[in] Buffer         The characters.
  @param[in] NumberOfBytes  How many.

  @return NumberOfBytes, always.
**/
UINTN
EFIAPI
SerialPortWrite (
  IN UINT8  *Buffer,
  IN UINTN  NumberOfBytes
  )
{
  ARM_SVC_ARGS  Args;
  UINT64        Words[MAX_CHARACTERS / sizeof (UINT64)];
  UINTN         Done;
  UINTN         Count;
  UINTN         Index;

  for (Done = 0; Done < NumberOfBytes; Done += Count) {
    Count = NumberOfBytes - Done;
    if (Count > MAX_CHARACTERS) {
      Count = MAX_CHARACTERS;
    }

    for (Index = 0; Index < ARRAY_SIZE (Words); Index++) {
      Words[Index] = 0;
    }

    for (Index = 0; Index < Count; Index++) {
      Words[Index / 8] |= (UINT64)Buffer[Done + Index] << (8 * (Index % 8));
    }

    Args.Arg0 = ARM_FID_FFA_CONSOLE_LOG_AARCH64;
    Args.Arg1 = Count;
    Args.Arg2 = Words[0];
    Args.Arg3 = Words[1];
    Args.Arg4 = Words[2];
    Args.Arg5 = Words[3];
    Args.Arg6 = Words[4];
    Args.Arg7 = Words[5];
    ArmCallSvc (&Args);
  }

  return NumberOfBytes;
}

/**
  There is no input.

  @param[out] Buffer         Not used.
  @param[in]  NumberOfBytes  Not used.

  @return 0
**/
UINTN
EFIAPI
SerialPortRead (
  OUT UINT8  *Buffer,
  IN  UINTN  NumberOfBytes
  )
{
  return 0;
}

/**
  There is no input.

  @retval FALSE  Always.
**/
BOOLEAN
EFIAPI
SerialPortPoll (
  VOID
  )
{
  return FALSE;
}

/**
  There are no control bits.

  @param[in] Control  Not used.

  @retval RETURN_UNSUPPORTED  Always.
**/
RETURN_STATUS
EFIAPI
SerialPortSetControl (
  IN UINT32  Control
  )
{
  return RETURN_UNSUPPORTED;
}

/**
  There are no control bits.

  @param[out] Control  Not used.

  @retval RETURN_UNSUPPORTED  Always.
**/
RETURN_STATUS
EFIAPI
SerialPortGetControl (
  OUT UINT32  *Control
  )
{
  return RETURN_UNSUPPORTED;
}

/**
  There is nothing to configure.

  @param[in, out] BaudRate          Not used.
  @param[in, out] ReceiveFifoDepth  Not used.
  @param[in, out] Timeout           Not used.
  @param[in, out] Parity            Not used.
  @param[in, out] DataBits          Not used.
  @param[in, out] StopBits          Not used.

  @retval RETURN_UNSUPPORTED  Always.
**/
RETURN_STATUS
EFIAPI
SerialPortSetAttributes (
  IN OUT UINT64              *BaudRate,
  IN OUT UINT32              *ReceiveFifoDepth,
  IN OUT UINT32              *Timeout,
  IN OUT EFI_PARITY_TYPE     *Parity,
  IN OUT UINT8               *DataBits,
  IN OUT EFI_STOP_BITS_TYPE  *StopBits
  )
{
  return RETURN_UNSUPPORTED;
}
